"""The front on a transport of the test's own: what needs no socket to be seen."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from dashbelle.wire.front import GuardedHttp, Limits, guarded

GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 80\r\n\r\n" + b"x" * 80


class StuckTransport(asyncio.Transport):
    """A connection whose peer takes nothing and says nothing by itself."""

    def __init__(self, peer: socket.socket | None = None) -> None:
        super().__init__({"socket": peer})
        self.written = b""
        self.is_reading_now = True
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.is_aborted = True

    def abort(self) -> None:
        self.is_aborted = True


async def answer(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:  # noqa: ANN401 - ASGI
    """204 to everything."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def connect(
    kind: type[GuardedHttp] = GuardedHttp, peer: socket.socket | None = None
) -> tuple[GuardedHttp, StuckTransport]:
    """A front with a peer that is there but takes nothing."""
    config = Config(answer, ws="none", lifespan="off", log_config=None)
    front = kind(config, ServerState(), {}, asyncio.get_running_loop())
    transport = StuckTransport(peer)
    front.connection_made(transport)
    return front, transport


async def finish(front: GuardedHttp) -> None:
    """Let every request that arrived be answered."""
    while front.tasks:
        await asyncio.gather(*front.tasks)


async def test_a_peer_that_takes_nothing_is_aborted_after_30_seconds() -> None:
    front, transport = connect()
    front.data_received(GET)
    await finish(front)
    now = asyncio.get_running_loop().time()
    assert transport.written.startswith(b"HTTP/1.1 204 ")
    front.check(now)
    front.check(now + 29)
    assert not transport.is_aborted
    front.check(now + 31)
    assert transport.is_aborted


async def test_a_body_that_waits_for_us_is_not_late() -> None:
    front, transport = connect(guarded(Limits(ahead_bytes=50)))
    now = asyncio.get_running_loop().time()
    front.data_received(GET + POST[:-40])
    assert not transport.is_reading_now
    front.check(now + 29)
    await finish(front)
    assert transport.is_reading_now
    front.check(now + 36)
    assert not front.is_closing
    front.check(now + 38)
    assert front.is_closing


async def test_input_is_taken_ahead_again_once_the_queue_is_empty() -> None:
    front, transport = connect(guarded(Limits(ahead_bytes=50)))
    for _ in range(3):
        front.data_received(GET * 3)
        await finish(front)
        front.data_received(GET * 2)
        assert transport.is_reading_now
        await finish(front)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has no TCP_USER_TIMEOUT")
async def test_the_kernel_is_told_when_a_silent_peer_is_gone() -> None:
    with socket.socket(socket.AF_INET) as peer:
        connect(guarded(Limits(write_stall_s=30)), peer)
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
