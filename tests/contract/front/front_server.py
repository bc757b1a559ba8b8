"""A small ASGI app on a real uvicorn with the guarded front, as a process: `front_server.py LIMITS_JSON`.

Prints its port. One free path per behaviour; `/left` tells which apps saw their client leave, and in which phase.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from uvicorn.server import ServerState

from dashbelle.wire.front import Limits, guarded

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

EVENT = b"data:x\n\n"
FLOOD_BYTES = 50_000_000


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self._send = scope, receive, send
        self.query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}

    async def read(self) -> bytes | None:
        """The body; None if the client left before its end."""
        body = b""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return None
            body += message["body"]
            if not message["more_body"]:
                return body

    async def hang_up(self) -> None:
        """Returns when the client left."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int = 200, **fields: str) -> None:
        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        await self.start(status, content_type="application/json", content_length=str(len(body)))
        await self.send(body, more=False)


class App:
    """The app; `gone` maps a request's `name` to the phase in which its client left."""

    def __init__(self) -> None:
        self.gone: dict[str, str] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        plain = (self.ok, self.see, self.decline, self.left, self.blind)
        watched = (self.queued, self.whole, self.stream, self.silent, self.flood)
        acts = {f"/{act.__name__}": act for act in plain + watched}
        await acts.get(scope["path"], self.missing)(exchange)

    async def missing(self, exchange: Exchange) -> None:
        await exchange.answer({"code": "NotFound"}, 404)

    async def ok(self, exchange: Exchange) -> None:
        await exchange.answer({"ok": True})

    async def see(self, exchange: Exchange) -> None:
        """What arrived: method, body, headers."""
        body = await exchange.read()
        if body is None:
            self.gone[exchange.query.get("name", "")] = "see"
            return
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in exchange.scope["headers"]]
        seen = {"method": exchange.scope["method"], "bytes": len(body), "body": body[:100].decode("latin-1")}
        await exchange.answer({**seen, "headers": headers})

    async def decline(self, exchange: Exchange) -> None:
        """413 without a look at the body."""
        await exchange.answer({"code": "BadRequest.TooLarge"}, 413)

    async def left(self, exchange: Exchange) -> None:
        await exchange.answer(self.gone)

    async def queued(self, exchange: Exchange) -> None:
        """Wait long before the first byte."""
        await self._watched(exchange, "queued", asyncio.sleep(20))

    async def whole(self, exchange: Exchange) -> None:
        """Wait long, then one JSON answer."""

        async def work() -> None:
            await asyncio.sleep(float(exchange.query.get("s", 20)))
            await exchange.answer({"ok": True})

        await self._watched(exchange, "whole", work())

    async def stream(self, exchange: Exchange) -> None:
        """`n` events, `gap` seconds apart."""

        async def work() -> None:
            await exchange.start(content_type="text/event-stream")
            for _ in range(int(exchange.query.get("n", 400))):
                await exchange.send(EVENT, more=True)
                await asyncio.sleep(float(exchange.query.get("gap", 0.05)))
            await exchange.send(b"", more=False)

        await self._watched(exchange, "stream", work())

    async def silent(self, exchange: Exchange) -> None:
        """One event, then nothing for long."""

        async def work() -> None:
            await exchange.start(content_type="text/event-stream")
            await exchange.send(EVENT, more=True)
            await asyncio.sleep(20)

        await self._watched(exchange, "silent", work())

    async def flood(self, exchange: Exchange) -> None:
        """50 MB as fast as the client takes them."""

        async def work() -> None:
            await exchange.start(content_type="text/event-stream")
            block = b"x" * 65536
            for _ in range(FLOOD_BYTES // len(block)):
                await exchange.send(block, more=True)
                await asyncio.sleep(0)  # a send to a client that left returns at once: let the watcher see it
            await exchange.send(b"", more=False)

        await self._watched(exchange, "flood", work())

    async def blind(self, exchange: Exchange) -> None:
        """The same, by an app that learns of its client only by sending."""
        await exchange.start(content_type="text/event-stream")
        for _ in range(FLOOD_BYTES // 65536):
            await exchange.send(b"x" * 65536, more=True)
        self.gone[exchange.query.get("name", "")] = "blind"

    async def _watched(self, exchange: Exchange, phase: str, work: Coroutine[None, None, None]) -> None:
        """Read the body, then work until done or until the client leaves."""
        if await exchange.read() is None:
            work.close()
            return
        worker = asyncio.ensure_future(work)
        watcher = asyncio.ensure_future(exchange.hang_up())
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            self.gone[exchange.query.get("name", "")] = phase
        for task in (worker, watcher):
            task.cancel()
        await asyncio.gather(worker, watcher, return_exceptions=True)


class EchoAfterHandshake(asyncio.Protocol):
    """Stands in for a WebSocket protocol: answers 101 to the handed-over head, then echoes bytes."""

    def __init__(self, server_state: ServerState, **_: object) -> None:
        self.connections = server_state.connections
        self.greeted = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data if self.greeted else b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        self.greeted = True

    def connection_lost(self, _: Exception | None) -> None:
        self.connections.discard(self)

    def shutdown(self) -> None:
        self.transport.close()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal again at its end; without it: exit 143
    limits = Limits(**json.loads(sys.argv[1]))
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        App(),
        http=guarded(limits),
        ws=EchoAfterHandshake,
        loop="uvloop",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=1 if limits.head_s < 1 else 75,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
