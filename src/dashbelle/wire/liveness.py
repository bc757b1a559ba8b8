"""Both ends of a connection while an answer is made: a hang-up ends the work, a heartbeat fills the silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from dashbelle.wire.exchange import Exchange


class QuitWhen:
    """`async with QuitWhen(event)`: when `await event()` returns, the block is cancelled and then left quietly.

    Cancellation from anywhere else passes through, as with asyncio.timeout.
    """

    def __init__(self, event: Callable[[], Awaitable[None]]) -> None:
        self._event = event
        self._happened = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("QuitWhen needs a task to cancel")
        self._task = task
        self._cancels_before = task.cancelling()
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await self._event()
        self._happened = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # Nothing here may await: the watcher could then cancel work that lies behind the block.
        self._watcher.cancel()
        if not self._happened:
            return False
        ours_alone = self._task.uncancel() <= self._cancels_before
        return ours_alone and isinstance(error, asyncio.CancelledError)


class Heartbeat:
    """`async with Heartbeat(exchange, comment)`: sends `comment` whenever an event stream was silent for too long."""

    def __init__(self, exchange: Exchange, comment: bytes) -> None:
        self._exchange = exchange
        self._comment = comment

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._beat())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _beat(self) -> None:
        interval_s = self._exchange.limits.heartbeat_s
        now = asyncio.get_running_loop().time
        while True:
            silent_s = now() - self._exchange.last_event_at
            if silent_s >= interval_s:
                await self._exchange.send_event(self._comment)
                silent_s = 0.0
            await asyncio.sleep(interval_s - silent_s)
