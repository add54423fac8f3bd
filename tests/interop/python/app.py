"""An app of the web, as chat products are made: on uvicorn, with a stream of events, a WebSocket and uploads.

    app.py PORT

SIGUSR1 makes it unready, SIGTERM ends it.
"""

import asyncio
import hashlib
import json
import signal
import sys

import uvicorn

PORT = int(sys.argv[1])
# How long an answer takes.
WORK_SECONDS = 0.005
ready = True


async def answer(send, status, body, content_type=b"text/plain"):
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def chunks(receive):
    """The request's body as it comes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def events(receive, send):
    """An event for each piece of the request, sent before the next has come."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for chunk in chunks(receive):
        await send({"type": "http.response.body", "body": b"data: " + chunk + b"\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def upload(receive, send):
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks(receive):
        digest.update(chunk)
        size += len(chunk)
    await answer(send, 200, f"{size} {digest.hexdigest()}".encode())


async def socket(receive, send):
    """Says who it is, then everything that it is told."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": f"replica {PORT}"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "websocket":
        await socket(receive, send)
        return
    path = scope["path"]
    if path == "/ready":
        await answer(send, 200 if ready else 503, b"ready" if ready else b"going")
    elif path == "/events":
        await events(receive, send)
    elif path == "/upload":
        await upload(receive, send)
    elif path == "/told":
        told = {name.decode(): value.decode() for name, value in scope["headers"]}
        told |= {"scheme": scope["scheme"], "client": scope["client"][0]}
        await answer(send, 200, json.dumps(told).encode(), b"application/json")
    elif path == "/work":
        await asyncio.sleep(WORK_SECONDS)
        await answer(send, 200, str(PORT).encode())
    else:
        await answer(send, 404, b"nothing here")


def main():
    def leave(*_):
        global ready
        ready = False

    signal.signal(signal.SIGUSR1, leave)
    # What proxies say counts, as it does behind them.
    options = {"proxy_headers": True, "forwarded_allow_ips": "127.0.0.1"}
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", ws="websockets-sansio", **options)


main()
