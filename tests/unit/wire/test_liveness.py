"""A hang-up cancels exactly the block that it should, and heartbeats fill silence only."""

from __future__ import annotations

import asyncio

import pytest
from asgi_client import LIMITS, Connection, scope_of
from starlette.types import Message as ASGIMessage

from dashbelle.wire.dashscope import HEARTBEAT
from dashbelle.wire.exchange import Exchange, ExchangeLimits
from dashbelle.wire.liveness import Heartbeat, QuitWhen


class Block:
    """A task that waits in a QuitWhen block until it is cancelled or released."""

    def __init__(self) -> None:
        self.event, self.release, self.entered = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.cancelled_inside = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> str:
        async with QuitWhen(self._event_set):
            self.entered.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled_inside = True
                raise
        await asyncio.sleep(0)  # a cancellation left behind would strike here
        return "left quietly"

    async def _event_set(self) -> None:
        await self.event.wait()


async def test_the_event_ends_the_block_and_nothing_else() -> None:
    block = Block()
    await block.entered.wait()
    block.event.set()
    assert await block.task == "left quietly"
    assert block.cancelled_inside
    assert block.task.cancelling() == 0


async def test_an_event_after_the_block_is_ignored() -> None:
    block = Block()
    await block.entered.wait()
    block.release.set()
    block.event.set()
    assert await block.task == "left quietly"


async def test_cancellation_from_outside_passes_through() -> None:
    block = Block()
    await block.entered.wait()
    block.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await block.task


async def test_cancellation_from_outside_wins_over_the_event() -> None:
    block = Block()
    await block.entered.wait()
    block.event.set()
    await asyncio.sleep(0)  # both waiters are awake now, none has run
    block.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await block.task


async def test_errors_of_the_block_pass_through() -> None:
    event = asyncio.Event()

    async def wait() -> None:
        await event.wait()

    with pytest.raises(LookupError):
        async with QuitWhen(wait):
            raise LookupError


async def test_an_error_on_the_way_out_of_a_cancelled_block_passes_through() -> None:
    async def now() -> None: ...

    async def fail_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError):
        async with QuitWhen(now):
            await fail_when_cancelled()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


class BeatCounter(Connection):
    """Says when it got its third piece."""

    def __init__(self) -> None:
        super().__init__([b""])
        self.third = asyncio.Event()

    async def send(self, message: ASGIMessage) -> None:
        await super().send(message)
        if len(self.reply.pieces) == 3:
            self.third.set()


def exchange_of(connection: Connection, limits: ExchangeLimits) -> Exchange:
    scope = scope_of("POST", "/", {})
    return Exchange(scope, connection.receive, connection.send, request_id="id", limits=limits)


async def test_silence_is_filled_with_comments() -> None:
    connection = BeatCounter()
    async with Heartbeat(exchange_of(connection, ExchangeLimits(max_body_bytes=1, heartbeat_s=0.0)), HEARTBEAT):
        await connection.third.wait()
    got = len(connection.reply.pieces)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.reply.pieces == [HEARTBEAT] * got


async def test_a_lively_stream_has_no_heartbeat() -> None:
    connection = Connection([b""])
    exchange = exchange_of(connection, LIMITS)
    async with Heartbeat(exchange, HEARTBEAT):
        for _ in range(5):
            await exchange.send_event(b"event")
            await asyncio.sleep(0)
    assert connection.reply.pieces == [b"event"] * 5
