"""A process that reserves and settles without end and says what was acknowledged; it waits to be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from itertools import count
from random import Random

from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason

TASKS = 16
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def say(*words: object) -> None:
    """One write: whole or not at all."""
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


async def call(ledger: Ledger, request_id: str, output_tokens: int) -> None:
    """One call, and what came back of it."""
    await ledger.reserve(Reservation(request_id, 1, "k", None, "belle", "smol", 8, 100, NOON))
    say("reserved", request_id, 0)
    await asyncio.sleep(0)
    await ledger.settle(Settlement(request_id, 8, output_tokens, EndReason.STOP, 0.0, None, NOON))
    say("settled", request_id, output_tokens)


async def load(url: str, seed: int) -> None:
    """Run TASKS calls at a time, the same ones for the same seed."""
    random, numbers = Random(seed), count()  # noqa: S311 - a fixed seed, not a secret
    ledger = Ledger(Store.open(url))
    await ledger.settle_crashed(NOON)
    say("ready", seed, 0)

    async def run() -> None:
        while True:
            await call(ledger, f"{seed}-{next(numbers)}", random.randrange(100))

    await asyncio.gather(*(run() for _ in range(TASKS)))


if __name__ == "__main__":
    asyncio.run(load(sys.argv[1], int(sys.argv[2])))
