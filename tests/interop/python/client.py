"""The client, on grpcio's blocking API."""

import queue
import sys
import traceback

import grpc

import contract

# How long a call may take; a fraction of a second, unless the machine is overloaded.
LIMIT = 30
CODE = grpc.StatusCode
# A response that does not come before its call is over.
LATE = {"size": 1, "interval_us": 60_000_000}


class Stub:
    """A callable for each method of a service."""

    def __init__(self, channel, service="TestService"):
        for name, (request, response, sends, receives) in contract.methods(service).items():
            kind = f"{'stream' if sends else 'unary'}_{'stream' if receives else 'unary'}"
            call = getattr(channel, kind)(
                f"/grpc.testing.{service}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, name, call)


class Requests:
    """The requests of a stream, sent when they are said."""

    def __init__(self):
        self.queue = queue.SimpleQueue()

    def send(self, **fields):
        self.queue.put(contract.StreamingOutputCallRequest(**fields))

    def close(self):
        self.queue.put(None)

    def __iter__(self):
        return iter(self.queue.get, None)


def expect(condition, *words):
    if not condition:
        raise AssertionError(" ".join(map(str, words)))


def fails(call, code, message=None):
    """Runs a call that must end with a status."""
    try:
        call()
    except grpc.RpcError as error:
        expect(error.code() == code, "the status is", error.code(), error.details())
        expect(message is None or error.details() == message, "the message is", repr(error.details()))
        return
    raise AssertionError(f"it succeeded instead of failing with {code}")


def of(case, *more):
    return {"metadata": ((contract.CASE, case),) + more, "timeout": LIMIT}


def sized(*sizes):
    return [{"size": size} for size in sizes]


def empty_unary(stub, case):
    expect(stub.EmptyCall(contract.Empty(), **of(case)) == contract.Empty(), "it is not empty")


def unary(stub, case, sent, received, compression=None, **fields):
    request = contract.SimpleRequest(response_size=received, payload={"body": bytes(sent)}, **fields)
    response = stub.UnaryCall(request, compression=compression, **of(case))
    expect(response.payload.body == bytes(received), len(response.payload.body), "bytes came back")


def large_unary(stub, case):
    unary(stub, case, 271828, 314159)


def client_compressed_unary(stub, case):
    # The library does not let a server see compression, so not all servers can honour `expect_compressed`.
    unary(stub, case, 271828, 314159, grpc.Compression.Gzip, expect_compressed={"value": True})
    unary(stub, case, 271828, 314159, expect_compressed={"value": False})


def server_compressed_unary(stub, case):
    unary(stub, case, 271828, 314159, response_compressed={"value": True})
    unary(stub, case, 271828, 314159, response_compressed={"value": False})


def client_streaming(stub, case):
    sizes = (27182, 8, 1828, 45904)
    requests = (contract.StreamingInputCallRequest(payload={"body": bytes(size)}) for size in sizes)
    response = stub.StreamingInputCall(requests, **of(case))
    expect(response.aggregated_payload_size == 74922, response.aggregated_payload_size)


def server_streaming(stub, case):
    sizes = (31415, 9, 2653, 58979)
    request = contract.StreamingOutputCallRequest(response_parameters=sized(*sizes))
    received = tuple(len(r.payload.body) for r in stub.StreamingOutputCall(request, **of(case)))
    expect(received == sizes, received)


def ping_pong(stub, case):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), **of(case))
    for sent, received in ((27182, 31415), (8, 9), (1828, 2653), (45904, 58979)):
        requests.send(response_parameters=sized(received), payload={"body": bytes(sent)})
        expect(len(next(responses).payload.body) == received, "not", received)
    requests.close()
    expect(list(responses) == [], "more came")


def empty_stream(stub, case):
    expect(list(stub.FullDuplexCall(iter(()), **of(case))) == [], "something came")


def half_close(stub, case):
    requests = Requests()
    responses = stub.HalfDuplexCall(iter(requests), **of(case))
    for size in (10, 20, 30):
        requests.send(response_parameters=sized(size))
    await_that("began", case)
    requests.close()
    expect([len(r.payload.body) for r in responses] == [10, 20, 30], "other responses")


def messages_over_4_mib(stub, case):
    unary(stub, case, 5 << 20, 6 << 20)


def custom_metadata(stub, case):
    sent = (contract.ECHO_INITIAL, "test_initial_metadata_value"), (contract.ECHO_TRAILING, bytes(range(256)))
    request = contract.SimpleRequest(response_size=314159, payload={"body": bytes(271828)})
    _, call = stub.UnaryCall.with_call(request, **of(case, *sent))
    check_metadata(call, sent)
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), **of(case, *sent))
    requests.send(response_parameters=sized(314159), payload={"body": bytes(271828)})
    next(responses)
    requests.close()
    expect(list(responses) == [], "more came")
    check_metadata(responses, sent)


def metadata_of_10k(stub, case):
    sent = (contract.ECHO_INITIAL, "m" * 10_000), (contract.ECHO_TRAILING, b"\xab")
    _, call = stub.EmptyCall.with_call(contract.Empty(), **of(case, *sent))
    check_metadata(call, sent)


def check_metadata(call, sent):
    expect(sent[0] in call.initial_metadata(), "the initial metadata is", call.initial_metadata())
    expect(sent[1] in call.trailing_metadata(), "the trailing metadata is", call.trailing_metadata())


def status(stub, case, code, message):
    asked = {"code": code.value[0], "message": message}
    fails(lambda: stub.UnaryCall(contract.SimpleRequest(response_status=asked), **of(case)), code, message)
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), **of(case))
    requests.send(response_status=asked)
    requests.close()
    fails(lambda: list(responses), code, message)


def status_code_and_message(stub, case):
    status(stub, case, CODE.UNKNOWN, "test status message")


def special_status_message(stub, case):
    status(stub, case, CODE.UNKNOWN, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")


def unimplemented_method(stub, case):
    fails(lambda: stub.UnimplementedMethod(contract.Empty(), **of(case)), CODE.UNIMPLEMENTED)


def unimplemented_service(stub, case):
    fails(lambda: stub.other.UnimplementedCall(contract.Empty(), **of(case)), CODE.UNIMPLEMENTED)


def deadline_is_passed_on(stub, case):
    stub.EmptyCall(contract.Empty(), metadata=((contract.CASE, case),), timeout=20)


def cancel_after_begin(stub, case):
    requests = Requests()
    call = stub.StreamingInputCall.future(iter(requests), **of(case))
    await_that("began", case)
    call.cancel()
    requests.close()
    expect(call.code() == CODE.CANCELLED, "the status is", call.code())


def cancel_while_waiting(stub, case):
    responses = stub.StreamingOutputCall(contract.StreamingOutputCallRequest(response_parameters=[LATE]), **of(case))
    await_that("began", case)
    responses.cancel()
    fails(lambda: next(responses), CODE.CANCELLED)


def cancel_after_first_response(stub, case):
    requests = Requests()
    responses = stub.FullDuplexCall(iter(requests), **of(case))
    requests.send(response_parameters=sized(31415) + [LATE], payload={"body": bytes(27182)})
    next(responses)
    responses.cancel()
    fails(lambda: next(responses), CODE.CANCELLED)
    requests.close()


def timeout_on_sleeping_server(stub, case):
    requests = Requests()
    metadata = ((contract.CASE, case),)
    responses = stub.FullDuplexCall(iter(requests), metadata=metadata, timeout=0.5)
    requests.send(response_parameters=[LATE])
    fails(lambda: next(responses), CODE.DEADLINE_EXCEEDED)
    requests.close()


CASES = (
    empty_unary,
    large_unary,
    client_compressed_unary,
    server_compressed_unary,
    client_streaming,
    server_streaming,
    ping_pong,
    empty_stream,
    half_close,
    messages_over_4_mib,
    custom_metadata,
    metadata_of_10k,
    status_code_and_message,
    special_status_message,
    unimplemented_method,
    unimplemented_service,
    deadline_is_passed_on,
    cancel_after_begin,
    cancel_while_waiting,
    cancel_after_first_response,
    timeout_on_sleeping_server,
)


def await_that(what, case):
    """Waits until a server has told so: whoever started this program hears the servers and writes a line."""
    print("await", what, case, flush=True)
    sys.stdin.readline()


def drive(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=contract.OPTIONS) as channel:
        stub = Stub(channel)
        stub.other = Stub(channel, "UnimplementedService")
        for case in CASES:
            try:
                case(stub, case.__name__)
                print("passed", case.__name__, flush=True)
            except (AssertionError, grpc.RpcError, StopIteration):
                why = " | ".join(traceback.format_exc().strip().splitlines())
                print("failed", case.__name__, why, flush=True)
