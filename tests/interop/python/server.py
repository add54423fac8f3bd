"""The server, on grpcio's blocking API: the asynchronous one lets a cancelled stream of requests end like a whole one."""

import os
import sys
import threading
from concurrent import futures

import grpc

import contract


def tell(*words):
    # One write: lines of several threads do not mix.
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Call:
    """What a method needs of its call; tells when it begins, what time it has left, and whether it is cancelled."""

    def __init__(self, context):
        self.context = context
        self.answered = False
        self.over = threading.Event()
        sent = context.invocation_metadata()
        self.case = next((value for key, value in sent if key == contract.CASE), None)
        context.add_callback(self.ended)
        left = context.time_remaining()
        if left is not None:
            self.tell("deadline", int(left * 1000))
        self.tell("began")
        context.set_trailing_metadata([pair for pair in sent if pair[0] == contract.ECHO_TRAILING])
        initial = [pair for pair in sent if pair[0] == contract.ECHO_INITIAL]
        if initial:
            context.send_initial_metadata(initial)

    def tell(self, what, *more):
        if self.case is not None:
            tell(what, self.case, *more)

    def ended(self):
        self.over.set()
        if not self.answered:
            self.tell("cancelled")

    def fail(self, code, message):
        self.answered = True
        self.context.abort(code, message)

    def end_as_asked(self, request):
        asked = request.response_status
        if asked.code:
            self.fail(next(code for code in grpc.StatusCode if code.value[0] == asked.code), asked.message)


def empty_call(_request, call):
    call.answered = True
    return contract.Empty()


def unary_call(request, call):
    if any(request.payload.body):
        call.fail(grpc.StatusCode.INVALID_ARGUMENT, "the payload is not all zeros")
    if request.response_compressed.value:
        call.context.set_compression(grpc.Compression.Gzip)
    call.end_as_asked(request)
    call.answered = True
    return contract.SimpleResponse(payload={"body": bytes(request.response_size)})


def streaming_input_call(requests, call):
    size = sum(len(request.payload.body) for request in requests)
    call.tell("half-closed")
    call.answered = True
    return contract.StreamingInputCallResponse(aggregated_payload_size=size)


def answer(requests, call):
    for request in requests:
        call.end_as_asked(request)
        for parameters in request.response_parameters:
            if call.over.wait(parameters.interval_us / 1e6):
                return
            yield contract.StreamingOutputCallResponse(payload={"body": bytes(parameters.size)})


def streaming_output_call(request, call):
    yield from answer([request], call)
    call.answered = True


def full_duplex_call(requests, call):
    yield from answer(requests, call)
    call.tell("half-closed")
    call.answered = True


def half_duplex_call(requests, call):
    kept = list(requests)
    call.tell("half-closed")
    yield from answer(kept, call)
    call.answered = True


BEHAVIOURS = {
    "EmptyCall": empty_call,
    "UnaryCall": unary_call,
    "StreamingOutputCall": streaming_output_call,
    "StreamingInputCall": streaming_input_call,
    "FullDuplexCall": full_duplex_call,
    "HalfDuplexCall": half_duplex_call,
}
HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def handler(name, request, response, sends, receives):
    behaviour = BEHAVIOURS[name]
    return HANDLERS[sends, receives](
        lambda given, context: behaviour(given, Call(context)),
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def serve():
    """Serves until its input ends, which it does when whoever started it is gone."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=contract.OPTIONS)
    methods = {name: handler(name, *of) for name, of in contract.methods().items() if name in BEHAVIOURS}
    service = grpc.method_handlers_generic_handler("grpc.testing.TestService", methods)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tell("listening", port)
    sys.stdin.read()
    os._exit(0)
