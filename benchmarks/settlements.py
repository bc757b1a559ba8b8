"""Figure `settlements`: how many calls per second the ledger takes, from the reservation to the settlement."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import perf_counter
from uuid import uuid4

import uvloop

from benchmarks.figures import Figure
from benchmarks.machine import scratch
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason

TASKS = 64
SECONDS = 5.0


def measure() -> list[Figure]:
    """64 calls at a time on a fresh SQLite file, each durable twice."""
    with scratch() as folder:
        times_s, elapsed_s = uvloop.run(_settle_all(f"sqlite:///{folder / 'ledger.db'}"))
    times_ms = tuple(time_s * 1000 for time_s in times_s)
    return [
        Figure("settlements: calls per second", "1/s", (len(times_s) / elapsed_s,), samples=len(times_s)),
        Figure(f"settlements: reserve + settle, {TASKS} at a time", "ms", times_ms),
    ]


async def _settle_all(url: str) -> tuple[list[float], float]:
    """Seconds of each call, and of all together."""
    times_s: list[float] = []
    async with Store.open(url) as store, asyncio.TaskGroup() as group:
        start = perf_counter()
        for _ in range(TASKS):
            group.create_task(_settle(Ledger(store), start + SECONDS, times_s))
    return times_s, perf_counter() - start


async def _settle(ledger: Ledger, until: float, times_s: list[float]) -> None:
    while (start := perf_counter()) < until:
        first, last = lines()
        await ledger.reserve(first)
        await ledger.settle(last)
        times_s.append(perf_counter() - start)


def lines() -> tuple[Reservation, Settlement]:
    """The two lines of one made-up call."""
    now, request_id = datetime.now(UTC), str(uuid4())
    reservation = Reservation(
        request_id, 1, "default", None, "belle-llama-13b-2m-v1", "smollm2-135m-instruct", 40, 512, now
    )
    return reservation, Settlement(request_id, 40, 128, EndReason.STOP, 0.0, 0.05, now)
