"""A WebSocket client without a server, for the wire's tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from asgi_client import AUTHORIZED, generation
from starlette.types import ASGIApp
from starlette.types import Message as ASGIMessage

from dashbelle.errors import DashbelleError
from dashbelle.vocabulary import Delta
from dashbelle.wire.routes import INFERENCE_PATH
from dashbelle.wire.websocket_front import DRAIN

TASK_ID = "2bf83b9abb1b4a2fae0a3c9f3f1e7a10"
HELLO = (Delta("你", 1), Delta("好", 1), Delta("", 0, "stop"))
TERMINAL = {"task-finished", "task-failed"}


class Socket:
    """One socket, seen from the client. What the app sends waits in `sent`."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[ASGIMessage] = asyncio.Queue()
        self.draining = asyncio.Event()
        self.readable = asyncio.Event()
        """Cleared, the app's sends wait."""
        self.readable.set()
        self.reads = 0
        """How often the app asked for a message."""
        self._incoming: asyncio.Queue[ASGIMessage] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})

    # The app's side

    async def receive(self) -> ASGIMessage:
        self.reads += 1
        return await self._incoming.get()

    async def send(self, message: ASGIMessage) -> None:
        await self.readable.wait()
        self.sent.put_nowait(message)
        if message["type"] == "websocket.close":
            self.hang_up()

    async def drain_began(self) -> None:
        await self.draining.wait()

    def scope(self, headers: Mapping[str, str], path: str = INFERENCE_PATH) -> dict[str, Any]:
        return {
            "type": "websocket",
            "path": path,
            "query_string": b"secret=canary-query",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "extensions": {"websocket.http.response": {}, DRAIN: {"began": self.drain_began}},
        }

    # The client's side

    def say(self, frame: object) -> None:
        """Send a text frame: a string as it is, anything else as JSON."""
        text = frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False)
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def say_bytes(self, frame: bytes) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "bytes": frame})

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1005})

    async def line(self) -> str:
        """The next event, as it was spelt."""
        message = await self.sent.get()
        assert message["type"] == "websocket.send", message
        text: str = message["text"]
        return text

    async def event(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(await self.line())
        assert isinstance(value["payload"], dict)
        return value

    async def answer(self) -> list[str]:
        """Every event up to the next last one of a task."""
        lines = [await self.line()]
        while json.loads(lines[-1])["header"]["event"] not in TERMINAL:
            lines.append(await self.line())
        return lines

    async def failure(self) -> tuple[str, str, str]:
        """Task id, code and message of the next event, which must be a failure."""
        header = (await self.event())["header"]
        assert header["event"] == "task-failed", header
        return header["task_id"], header["error_code"], header["error_message"]


@asynccontextmanager
async def connected(app: ASGIApp, headers: Mapping[str, str] | None = None) -> AsyncIterator[Socket]:
    """An accepted socket; hung up at the end, if it was not closed, and the app must then return."""
    socket = Socket()
    running = asyncio.create_task(app(socket.scope(AUTHORIZED | dict(headers or {})), socket.receive, socket.send))
    assert (await socket.sent.get())["type"] == "websocket.accept"
    try:
        yield socket
    finally:
        socket.hang_up()
        await running


def run_task(task_id: object = TASK_ID, streaming: object = "none", **changes: object) -> dict[str, Any]:
    """A run-task frame; `changes` are the payload's."""
    service = {"task_group": "aigc", "task": "text-generation", "function": "generation"}
    header = {"action": "run-task", "task_id": task_id, "streaming": streaming}
    return {"header": header, "payload": generation(**service | changes)}


def continue_task(payload: object, task_id: str = TASK_ID) -> dict[str, Any]:
    return {"header": {"action": "continue-task", "task_id": task_id}, "payload": payload}


def finish_task(task_id: str = TASK_ID) -> dict[str, Any]:
    header = {"action": "finish-task", "task_id": task_id, "streaming": "duplex"}
    return {"header": header, "payload": {"input": {}}}


def failed(error: DashbelleError, task_id: str = TASK_ID) -> tuple[str, str, str]:
    """What `Socket.failure` gives for `error`."""
    return task_id, error.code, error.message


async def names(socket: Socket) -> list[str]:
    """The events up to the next last one of a task, by name."""
    return [json.loads(line)["header"]["event"] for line in await socket.answer()]
