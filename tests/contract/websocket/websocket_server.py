"""A small ASGI app behind the guarded WebSocket protocol, as a process: `websocket_server.py LIMITS_JSON`.

Prints its port. One path per behaviour; `GET /left` lists the paths whose apps saw their client leave.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from dashbelle.wire.front import GuardedHttp
from dashbelle.wire.websocket_front import DRAIN, GuardedWebSocket

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

left: list[str] = []


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        body = json.dumps(left).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
        return
    act = {"/count": count, "/aware": aware, "/flood": flood, "/done": done}[scope["path"]]
    await receive()
    await send({"type": "websocket.accept"})
    await act(scope, receive, send)


async def count(scope: Message, receive: Receive, send: Send) -> None:
    """Answer each message with its length. Knows of no drain."""
    while (message := await receive())["type"] != "websocket.disconnect":
        size = len(message.get("text") or message["bytes"])
        await send({"type": "websocket.send", "text": str(size)})
    await send({"type": "websocket.send", "text": "too late, and no error"})
    left.append(scope["path"])


async def aware(scope: Message, receive: Receive, send: Send) -> None:
    """When the server drains, say so a little later, and close."""

    async def close() -> None:
        await scope["extensions"][DRAIN]["began"]()
        await asyncio.sleep(0.3)
        await send({"type": "websocket.send", "text": "last words"})
        await send({"type": "websocket.close", "code": 1001})

    async with asyncio.TaskGroup() as group:
        closing = group.create_task(close())
        while (await receive())["type"] != "websocket.disconnect":
            pass
        closing.cancel()
    left.append(scope["path"])


async def flood(scope: Message, receive: Receive, send: Send) -> None:
    """Send 64 KiB again and again, while the client takes it."""

    async def pour() -> None:
        while True:
            await send({"type": "websocket.send", "text": "x" * 65536})
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        pouring = group.create_task(pour())
        while (await receive())["type"] != "websocket.disconnect":
            pass
        pouring.cancel()
    left.append(scope["path"])


async def done(_scope: Message, _receive: Receive, send: Send) -> None:
    """Say one thing and return without a close."""
    await send({"type": "websocket.send", "text": "done"})


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal again at its end; without it: exit 143
    limits = json.loads(sys.argv[1])
    options = {name: limits.pop(name) for name in list(limits) if name.startswith("ws_")}
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app,
        http=GuardedHttp,
        ws=type("Limited", (GuardedWebSocket,), limits),
        loop="uvloop",
        lifespan="off",
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=10,
        **options,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
