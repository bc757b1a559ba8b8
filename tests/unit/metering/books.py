"""Books with one property each, for a meter to write to, and meters over them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
from structlog.testing import LogCapture

from dashbelle.metering.ledger import Reservation, Settlement
from dashbelle.metering.meter import Meter, Tally
from dashbelle.store import StoreUnavailable
from dashbelle.vocabulary import Call, Caller, EndReason, TextPrompt

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Clock:
    """Stands still until it is moved; tells seconds and the time of day."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)


class MemoryBook:
    """Keeps the lines in memory; the first settlement of a call stands."""

    def __init__(self) -> None:
        self.reserved: list[Reservation] = []
        self.settled: list[Settlement] = []

    async def reserve(self, reservation: Reservation) -> None:
        self.reserved.append(reservation)

    async def settle(self, settlement: Settlement) -> bool:
        if any(line.request_id == settlement.request_id for line in self.settled):
            return False
        self.settled.append(settlement)
        return True


class ShutBook(MemoryBook):
    """Cannot write what is in `shut`; counts how often it was asked in vain."""

    def __init__(self, *shut: str) -> None:
        super().__init__()
        self.shut = set(shut)
        self.refused = 0

    async def reserve(self, reservation: Reservation) -> None:
        self._check("reserve")
        await super().reserve(reservation)

    async def settle(self, settlement: Settlement) -> bool:
        self._check("settle")
        return await super().settle(settlement)

    def _check(self, what: str) -> None:
        if what in self.shut:
            self.refused += 1
            raise StoreUnavailable("disk full")


class SlowBook(MemoryBook):
    """Takes what it is asked for at once, and answers only when told, as a disk does."""

    def __init__(self, slow: str) -> None:
        super().__init__()
        self._slow = slow
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def reserve(self, reservation: Reservation) -> None:
        await super().reserve(reservation)
        await self._wait("reserve")

    async def settle(self, settlement: Settlement) -> bool:
        first = await super().settle(settlement)
        await self._wait("settle")
        return first

    async def _wait(self, what: str) -> None:
        if what == self._slow:
            self.asked.set()
            await self.answer.wait()


class BrokenBook(MemoryBook):
    """Fails to settle by a bug, not by its disk."""

    async def settle(self, settlement: Settlement) -> bool:
        raise LookupError(settlement.request_id)


class Told:
    """Remembers what a meter says of settlements."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, EndReason]] = []

    def __call__(self, reservation: Reservation, settlement: Settlement) -> None:
        self.lines.append((reservation.served_model, settlement.end_reason))


def metered(
    book: MemoryBook,
    clock: Clock | None = None,
    logged: LogCapture | None = None,
    told: Told | None = None,
    pending_limit: int = 10,
) -> Meter:
    clock = clock or Clock()
    log = structlog.wrap_logger(
        structlog.ReturnLogger(),
        processors=[logged or LogCapture()],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    return Meter(book, clock=clock, now=clock.now, log=log, on_settled=told or Told(), pending_limit=pending_limit)


def call(request_id: str = "r") -> Call:
    return Call(request_id, Caller(7, "ci"), "belle", TextPrompt("Human:hi"), workspace="ws")


def measure(meter: Meter, request_id: str = "r") -> Tally:
    return meter.measure(call(request_id), "smol", 8, 100)


async def turn() -> None:
    """Let everything that is ready run once or more."""
    for _ in range(5):
        ready = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(ready.set_result, None)
        await ready
