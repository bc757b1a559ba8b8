"""The waiting line before one model's slots: bounded, first come first served."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

from dashbelle.errors import QueueFull, RequestTimedOut, ServerDraining

RESTART_S = 5
"""What a caller of a draining server is told to wait before it tries again, in seconds."""


class _Waiter(NamedTuple):
    slots: int
    turn: asyncio.Future[None]


class WaitingLine:
    """`slots` answers run at a time; at most `places` calls wait, in the order of their arrival."""

    def __init__(self, slots: int, places: int) -> None:
        self.slots = slots
        self._places = places
        self._free = slots
        self._waiting: deque[_Waiter] = deque()
        self._mean_s = 1.0
        self._closed = False

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self.slots - self._free

    @property
    def waiting(self) -> int:
        """Calls in the line."""
        return len(self._waiting)

    def check_room(self, slots: int) -> None:
        """Raise QueueFull, with the time after which to come back, when a call could neither run nor wait now."""
        if self._closed:
            raise ServerDraining(retry_after_s=RESTART_S)
        if (self._waiting or self._free < slots) and len(self._waiting) >= self._places:
            wait_s = math.ceil((len(self._waiting) + 1) * self._mean_s / self.slots)
            raise QueueFull(
                f"Requests rate limit exceeded, please try again later. "
                f"{self.slots} slots are busy and {len(self._waiting)} calls wait.",
                retry_after_s=min(max(wait_s, 1), 60),
            )

    @asynccontextmanager
    async def slot(self, slots: int, deadline: float) -> AsyncGenerator[None, None]:
        """Hold `slots` slots inside the block, after waiting for them. A call wider than all slots takes all.

        Raises RequestTimedOut when they are not free by `deadline` (event loop time), ServerDraining.
        """
        slots = min(slots, self.slots)
        try:
            async with asyncio.timeout_at(deadline):
                await self._take(slots)
        except TimeoutError:
            raise RequestTimedOut from None
        start = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._free += slots
            self._mean_s += 0.1 * (asyncio.get_running_loop().time() - start - self._mean_s)
            self._serve()

    def close(self) -> None:
        """Send all who wait away with ServerDraining, and all who come later."""
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft().turn
            if not turn.done():
                turn.set_exception(ServerDraining(retry_after_s=RESTART_S))

    async def _take(self, slots: int) -> None:
        if self._closed:
            raise ServerDraining(retry_after_s=RESTART_S)
        if not self._waiting and self._free >= slots:
            self._free -= slots
            return
        waiter = _Waiter(slots, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._serve()  # it may have been a wide call at the head that narrower ones waited behind
            elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._free += slots  # the slots came in the same moment as the cancellation
                self._serve()
            raise

    def _serve(self) -> None:
        while self._waiting and self._free >= self._waiting[0].slots:
            slots, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= slots
                turn.set_result(None)
