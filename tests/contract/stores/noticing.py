"""Waits until a database has noticed which processes are dead."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from sqlalchemy import text

from dashbelle.metering.ledger import Ledger
from dashbelle.store import Store

WITHIN_S = 10
_open = text("SELECT count(*) FROM open_calls")


async def settle_dead(store: Store, now: datetime) -> int:
    """Settle all open calls as crashed, whose processes must be dead; how many.

    Postgres takes a moment to notice that a killed process has gone.
    """
    settled = await Ledger(store).settle_crashed(now)
    until = time.monotonic() + WITHIN_S
    while await store.read(lambda connection: connection.scalar(_open)):
        if time.monotonic() > until:
            raise TimeoutError("a dead process is taken to live")
        await asyncio.sleep(0.01)
        settled += await Ledger(store).settle_crashed(now)
    return settled
