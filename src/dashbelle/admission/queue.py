"""The waiting line before one model's slots, for coroutines: the schedule decides, this waits, wakes and keeps time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from itertools import count

from dashbelle.admission.schedule import Moves, Outlook, Schedule, Visit
from dashbelle.errors import DashbelleError, RequestTimedOut, ServerDraining

RESTART_S = 5
"""What a caller of a draining server is told to wait before it tries again, in seconds."""

_Turn = asyncio.Future[DashbelleError | None]


class WaitingLine:
    """`slots` answers run at a time; at most `places` calls wait, of one key at most `places_per_key` (None: as many).

    Who is next is admission.schedule's decision. Deadlines are event loop time.
    """

    def __init__(self, slots: int, places: int, places_per_key: int | None = None) -> None:
        self._schedule = Schedule(slots, places, places_per_key)
        self._tickets = count()
        self._turns: dict[int, _Turn] = {}
        """Of every call that waits."""
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def slots(self) -> int:
        """How many there are."""
        return self._schedule.slots

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self._schedule.busy

    @property
    def waiting(self) -> int:
        """Calls in the line."""
        return self._schedule.waiting

    def check_room(self, visit: Visit) -> None:
        """Whether `room` would let this call in now. Raises QueueFull, ServerDraining."""
        if self._closed:
            raise ServerDraining(retry_after_s=RESTART_S)
        self._schedule.check_room(visit)

    @contextmanager
    def room(self, visit: Visit) -> Generator[Room, None, None]:
        """Room to run or to wait, taken at once and kept inside the block, so that nobody else can be promised it.

        Raises QueueFull and ServerDraining, as `check_room` does, before anything was taken.
        """
        self.check_room(visit)
        ticket = next(self._tickets)
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        self._move(self._schedule.arrive(ticket, visit, _now()))
        room = Room(self, ticket, turn)
        try:
            yield room
        finally:
            room.give_back()

    @asynccontextmanager
    async def slot(self, visit: Visit) -> AsyncGenerator[Room, None]:
        """`room`, and its slots as soon as it is the call's turn. Raises what both raise."""
        with self.room(visit) as room:
            async with room.slot():
                yield room

    def close(self) -> None:
        """Send all who wait away with ServerDraining, and all who come later."""
        self._closed = True
        for ticket in self._schedule.close():
            self._answer(ticket, ServerDraining(retry_after_s=RESTART_S))
        self._set_alarm()

    def outlook(self, ticket: int) -> Outlook | None:
        """Where a waiting call stands; None: it does not wait."""
        return self._schedule.outlook(ticket) if ticket in self._turns else None

    def give_back(self, ticket: int, used_tokens: int) -> None:
        """A call goes: from its slots, from the line, or after it was sent away."""
        if self._turns.pop(ticket, None) is not None:
            self._move(self._schedule.leave(ticket, _now()))
        elif self._schedule.runs(ticket):
            self._move(self._schedule.finish(ticket, _now(), used_tokens))

    def _move(self, moves: Moves) -> None:
        for ticket in moves.started:
            self._answer(ticket, None)
        for ticket in moves.expired:
            self._answer(ticket, RequestTimedOut())
        self._set_alarm()

    def _answer(self, ticket: int, refusal: DashbelleError | None) -> None:
        turn = self._turns.pop(ticket)
        if not turn.done():  # else cancelled, and its block has yet to give back what it was given
            turn.set_result(refusal)

    def _set_alarm(self) -> None:
        """Ring at the next deadline. A ring that comes too early, its call having started, only sets the next."""
        due = self._schedule.next_deadline
        if self._alarm is not None:
            if self._turns and self._alarm.when() <= due:
                return
            self._alarm.cancel()
            self._alarm = None
        if due < math.inf:
            self._alarm = asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._move(self._schedule.tick(_now()))


class Room:
    """One call's room in the line, or on the slots."""

    def __init__(self, line: WaitingLine, ticket: int, turn: _Turn) -> None:
        self.used_tokens = 0
        """What the call really took, input and output; to be told before its slots are given back."""
        self._line = line
        self._ticket = ticket
        self._turn = turn

    @property
    def outlook(self) -> Outlook | None:
        """Place and estimated wait; None: the call does not wait, or no longer."""
        return self._line.outlook(self._ticket)

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None, None]:
        """Hold the slots inside the block, after waiting for them. A call wider than all slots takes all.

        Raises RequestTimedOut when they are not free by the visit's deadline, ServerDraining.
        """
        refusal = await self._turn
        if refusal is not None:
            raise refusal
        try:
            yield
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Leave slots or line. Again: nothing."""
        self._line.give_back(self._ticket, self.used_tokens)


def _now() -> float:
    return asyncio.get_running_loop().time()
