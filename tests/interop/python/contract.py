"""The messages and methods of grpc.testing, read from the descriptor set that the tests' build wrote."""

import os

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _load():
    pool = descriptor_pool.DescriptorPool()
    with open(os.environ["WEFT_INTEROP_DESCRIPTORS"], "rb") as file:
        for each in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
            pool.Add(each)
    return pool


_POOL = _load()


def message(name):
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("grpc.testing." + name))


def methods(service="TestService"):
    """The methods of a service: name -> (request class, response class, streams requests, streams responses)."""
    found = _POOL.FindServiceByName("grpc.testing." + service).methods
    return {
        method.name: (
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            method.client_streaming,
            method.server_streaming,
        )
        for method in found
    }


Empty = message("Empty")
SimpleRequest = message("SimpleRequest")
SimpleResponse = message("SimpleResponse")
StreamingInputCallRequest = message("StreamingInputCallRequest")
StreamingInputCallResponse = message("StreamingInputCallResponse")
StreamingOutputCallRequest = message("StreamingOutputCallRequest")
StreamingOutputCallResponse = message("StreamingOutputCallResponse")

# Which case a call belongs to, so that a server can tell of it.
CASE = "weft-case"
ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"

# No limit on messages, 64 KiB of metadata.
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 65536),
    ("grpc.absolute_max_metadata_size", 65536),
)
