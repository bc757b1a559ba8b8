"""A database and processes that die or come at the same time."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from datetime import UTC, datetime

from sqlalchemy import create_engine, inspect

from dashbelle.metering.ledger import Ledger
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason, Receipt

NOW = datetime(2026, 1, 31, 13, tzinfo=UTC)

RESERVE_AND_HANG = """
import asyncio, sys
from datetime import UTC, datetime
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason

async def main():
    ledger = Ledger(Store.open(sys.argv[1]))
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for request_id in ("whole", "cut"):
        await ledger.reserve(Reservation(request_id, 1, "k", None, "m", "m", 8, 100, noon))
    await ledger.settle(Settlement("whole", 8, 3, EndReason.STOP, 0.0, None, noon))
    print("between", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

MIGRATE_AND_DIE = """
import os, signal, sys
from sqlalchemy import create_engine
from dashbelle import migrations

with create_engine(sys.argv[1], connect_args={"isolation_level": None}).connect() as connection:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    migrations.upgrade(connection)
    os.kill(os.getpid(), signal.SIGKILL)
"""

OPEN = "import asyncio, sys; from dashbelle.store import Store; asyncio.run(Store.open(sys.argv[1]).close())"


def start(script: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)


def after_a_crash(url: str) -> tuple[list[int], list[Receipt]]:
    """Start up twice: how many were settled as crashed each time, and all receipts."""

    async def start_up() -> tuple[int, list[Receipt]]:
        async with Store.open(url) as store:
            ledger = Ledger(store)
            crashed = await ledger.settle_crashed(NOW)
            return crashed, [receipt async for receipt in ledger.receipts()]

    first, second = asyncio.run(start_up()), asyncio.run(start_up())
    assert first[1] == second[1]
    return [first[0], second[0]], second[1]


def test_a_call_cut_by_kill_9_is_settled_as_crashed_exactly_once(url: str) -> None:
    with start(RESERVE_AND_HANG, url) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "between\n"
        child.kill()
    settled, receipts = after_a_crash(url)
    assert settled == [1, 0]
    told = [(one.request_id, one.end_reason, one.input_tokens, one.output_tokens) for one in receipts]
    assert told == [("whole", EndReason.STOP, 8, 3), ("cut", EndReason.CRASHED, 0, 0)]


def test_a_migration_cut_by_kill_9_is_done_at_the_next_start(url: str) -> None:
    with start(MIGRATE_AND_DIE, url) as child:
        assert child.wait() == -signal.SIGKILL
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    assert after_a_crash(url) == ([0, 0], [])


def test_processes_that_open_a_new_database_at_once_all_succeed(url: str) -> None:
    children = [start(OPEN, url) for _ in range(4)]
    assert [child.communicate()[0] for child in children] == [""] * 4
    assert [child.returncode for child in children] == [0] * 4
