"""`dashbelle backup`: a copy that proves itself, taken while others write."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from command import Run, runner_of
from typer import Typer
from typer.testing import CliRunner

from dashbelle.cli import backup, usage
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store, back_up
from dashbelle.vocabulary import EndReason

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
app = Typer()
app.command()(backup.backup)
run_backup = runner_of(app)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    return run_backup(home)


async def call(ledger: Ledger, number: int) -> None:
    await ledger.reserve(Reservation(f"r{number}", 1, "ci", None, "m", "m", 8, 100, NOON))
    await ledger.settle(Settlement(f"r{number}", 8, 3, EndReason.STOP, 0.0, None, NOON))


def verified(copy: Path) -> int:
    """How many lines a copy has; it must be sound."""
    environment = {"DASHBELLE_HOME": str(copy.parent), "DASHBELLE_DATABASE_URL": f"sqlite:///{copy}"}
    done = CliRunner().invoke(usage.app, ["verify", "--json"], env=environment, catch_exceptions=False)
    assert done.exit_code == 0
    lines: int = json.loads(done.stdout)["lines"]
    return lines


def test_a_copy_says_what_it_is_and_proves_itself(run: Run, home: Path, tmp_path: Path) -> None:
    async def fill() -> None:
        async with Store.open(f"sqlite:///{home}/dashbelle.db") as store:
            for number in range(5):
                await call(Ledger(store), number)

    asyncio.run(fill())
    copy = tmp_path / "copy.db"
    done = run(str(copy))
    assert done.exit_code == 0
    assert done.stdout.startswith(f"{copy}: {copy.stat().st_size:,} bytes. Keep {home / 'pepper'} with it.")
    assert done.stderr == f"To prove it: DASHBELLE_DATABASE_URL=sqlite:///{copy} dashbelle usage verify\n"
    assert verified(copy) == 10


def test_a_copy_under_load_has_everything_that_was_settled_before_it_began(home: Path, tmp_path: Path) -> None:
    copies = [tmp_path / f"copy-{number}.db" for number in range(3)]

    async def load_and_copy() -> list[int]:
        url = f"sqlite:///{home}/dashbelle.db"
        numbers, settled = count(), 0
        before: list[int] = []
        async with Store.open(url) as store:
            ledger = Ledger(store)

            async def load() -> None:
                nonlocal settled
                while len(before) < len(copies):
                    await call(ledger, next(numbers))
                    settled += 1

            async def copy() -> None:
                for number, target in enumerate(copies, start=1):
                    while settled < 100 * number:
                        await asyncio.sleep(0)
                    seen = settled
                    await back_up(url, target)
                    before.append(seen)

            await asyncio.gather(copy(), *(load() for _ in range(16)))
        return before

    before = asyncio.run(load_and_copy())
    for target, settled in zip(copies, before, strict=True):
        with closing(sqlite3.connect(target)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM settlements").fetchone()[0] >= settled
        assert verified(target) >= 2 * settled
    assert before[-1] >= 300


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda _home, copy: copy.write_text("precious"), "it exists"),
        (lambda home, _copy: (home / "dashbelle.db").unlink(), "there is no database"),
    ],
)
def test_what_cannot_be_copied_is_one_line_and_exit_code_1(
    run: Run, home: Path, tmp_path: Path, prepare: object, message: str
) -> None:
    home.mkdir()
    (home / "dashbelle.db").touch()
    assert callable(prepare)
    prepare(home, tmp_path / "copy.db")
    failed = run(str(tmp_path / "copy.db"))
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert message in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_postgres_is_left_to_its_own_tool(home: Path, tmp_path: Path) -> None:
    environment = {"DASHBELLE_HOME": str(home), "DASHBELLE_DATABASE_URL": "postgresql://u:hunter2@h/d"}
    failed = CliRunner().invoke(app, [str(tmp_path / "copy.db")], env=environment, catch_exceptions=False)
    assert failed.exit_code == 1
    assert (
        failed.stderr == f"dashbelle: cannot back up Postgres: use pg_dump --format=custom --file={tmp_path}/copy.db\n"
    )
