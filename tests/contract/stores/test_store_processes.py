"""A database and processes that die or come at the same time."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from noticing import settle_dead
from old_ledger import FIRST_REVISION, fill_old, revision_of
from sqlalchemy import MetaData

from dashbelle.admission import keys
from dashbelle.metering import tables
from dashbelle.metering.ledger import By, Ledger
from dashbelle.metering.verify import verify
from dashbelle.store import Store
from dashbelle.store.database import _database
from dashbelle.uploads import shelf
from dashbelle.vocabulary import EndReason, Receipt

NOW = datetime(2026, 1, 31, 13, tzinfo=UTC)
OLD_CALLS = 1100
"""More lines than the upgrade takes at a time."""

RESERVE_AND_HANG = """
import asyncio, sys
from datetime import UTC, datetime
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.store.database import _database
from dashbelle.uploads import shelf
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

OPEN_AND_DIE = """
import asyncio, os, signal, sys
from itertools import count
from sqlalchemy import event
from dashbelle.store import Store
from dashbelle.store.database import _database, _migrate

database = _database(sys.argv[1], 1)
statements = count(1)

def die(*_):
    if next(statements) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(database.writing, "before_cursor_execute", die)
_migrate(database)
"""

OPEN = "import asyncio, sys; from dashbelle.store import Store; asyncio.run(Store.open(sys.argv[1]).close())"


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


def after_a_crash(url: str) -> tuple[list[int], list[Receipt]]:
    """Start up twice: how many were settled as crashed each time, and all receipts."""

    async def start_up() -> tuple[int, list[Receipt]]:
        async with Store.open(url) as store:
            ledger = Ledger(store)
            crashed = await settle_dead(store, NOW)
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


def test_a_first_migration_cut_by_kill_9_is_done_at_the_next_start(url: str) -> None:
    with start(OPEN_AND_DIE, url, "12") as child:
        assert child.wait() == -signal.SIGKILL
    assert after_a_crash(url) == ([0, 0], [])


def test_an_upgrade_of_a_ledger_cut_by_kill_9_anywhere_is_done_at_the_next_start(url: str) -> None:
    old = fill_old(url, calls=OLD_CALLS)
    cuts = sorted(Random(7).sample(range(2, 60), 5))  # noqa: S311 - a fixed seed, not a secret
    for cut in cuts:
        with start(OPEN_AND_DIE, url, str(cut)) as child:
            assert child.wait() == -signal.SIGKILL, "it ended before: nothing was cut"
        assert revision_of(url) == FIRST_REVISION
    asyncio.run(check_upgraded(url, old))


def test_an_old_ledger_is_chained_summed_up_and_otherwise_as_it_was(url: str) -> None:
    asyncio.run(check_upgraded(url, fill_old(url, calls=OLD_CALLS)))


async def check_upgraded(url: str, old: Sequence[Receipt]) -> None:
    async with Store.open(url) as store:
        ledger = Ledger(store)
        assert [receipt async for receipt in ledger.receipts()] == list(old)
        verdict = await verify(store)
        assert (verdict.fault, verdict.lines) == (None, OLD_CALLS + len(old))
        by_key = {one.group: (one.calls, one.output_tokens) for one in await ledger.sums(By.KEY)}
        for name, (calls, tokens) in by_key.items():
            of_key = [receipt for receipt in old if receipt.key == name]
            assert (calls, tokens) == (len(of_key), sum(receipt.output_tokens for receipt in of_key))
        assert sum(calls for calls, _ in by_key.values()) == len(old)
        assert await ledger.settle_crashed(NOW) == OLD_CALLS - len(old)
        assert (await verify(store)).fault is None


def test_processes_that_open_a_new_database_at_once_all_succeed(url: str) -> None:
    children = [start(OPEN, url) for _ in range(4)]
    assert [child.communicate()[0] for child in children] == [""] * 4
    assert [child.returncode for child in children] == [0] * 4


def test_the_migrations_make_what_the_code_expects(url: str) -> None:
    expected = MetaData()
    for metadata in (keys.metadata, tables.metadata, shelf.metadata):
        for table in metadata.tables.values():
            table.to_metadata(expected)
    asyncio.run(Store.open(url).close())
    database = _database(url, 1)
    with database.reading.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), expected)
    for engine in (database.writing, database.reading):
        engine.dispose()
    assert found == []
