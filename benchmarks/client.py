"""A thin raw HTTP client: as little of our own time as possible between the server's bytes and the clock."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import Self

from benchmarks.replies import Reply

PATH = "/api/v1/services/aigc/text-generation/generation"


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reply = Reply()
        self._whole: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a port of this machine. Raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def ask(self, request: bytes) -> Reply:
        """Send `request` and return its whole answer. Raises ConnectionError, and ValueError for a status but 200."""
        if self._transport is None:
            raise ConnectionError("not connected")
        self._whole = asyncio.get_running_loop().create_future()
        self._reply = Reply(perf_counter())
        self._transport.write(request)
        await self._whole
        if self._reply.status != 200:
            raise ValueError(f"status {self._reply.status}: {self._reply.body.decode(errors='replace')}")
        return self._reply

    @property
    def reply(self) -> Reply:
        """The answer under way, as far as it has come."""
        return self._reply

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as TCP makes it
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._reply.feed(data, perf_counter()) and self._whole is not None and not self._whole.done():
            self._whole.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(ConnectionError(f"the server hung up: {exc}"))


def generation(key: str, model: str, prompt: str, *, events: bool, **parameters: object) -> bytes:
    """A whole request of the native protocol."""
    body = generation_body(model, prompt, **parameters)
    accept = "text/event-stream" if events else "application/json"
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nAccept: {accept}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def generation_body(model: str, prompt: str, **parameters: object) -> bytes:
    """Its body alone."""
    call = {"model": model, "input": {"prompt": prompt}, "parameters": parameters}
    return json.dumps(call, ensure_ascii=False).encode()
