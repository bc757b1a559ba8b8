"""`dashbelle usage verify`: a verdict for people and for machines, and an exit code."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command import Run, runner_of

from dashbelle.cli import usage
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
run_usage = runner_of(usage.app)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a ledger with three settled calls."""

    async def fill() -> None:
        async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
            ledger = Ledger(store)
            for request_id in ("r1", "r2", "r3"):
                await ledger.reserve(Reservation(request_id, 1, "ci", None, "m", "m", 8, 100, NOON))
                await ledger.settle(Settlement(request_id, 8, 3, EndReason.STOP, 0.0, None, NOON))

    asyncio.run(fill())
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    return run_usage(home)


def forge(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "dashbelle.db", isolation_level=None)) as connection:
        for table in ("reservations", "settlements"):
            connection.execute(f"DROP TRIGGER {table}_refuse_update")
        for statement in statements:
            connection.execute(statement)


def test_a_sound_ledger_is_said_with_its_head(run: Run) -> None:
    done = run("verify")
    assert (done.exit_code, done.stderr) == (0, "")
    first, head = done.stdout.splitlines()
    assert first == "The ledger is sound: 6 lines, and every sum agrees with them."
    assert head.startswith("Head: 6:")


def test_a_sound_ledger_as_json(run: Run) -> None:
    verdict = json.loads(run("verify", "--json").stdout)
    assert (verdict["ok"], verdict["lines"], verdict["fault"]) == (True, 6, None)
    assert verdict["head"].startswith("6:")


def test_a_forged_ledger_is_one_line_that_names_the_call_and_exit_code_1(run: Run, home: Path) -> None:
    forge(home, "UPDATE settlements SET output_tokens = 1 WHERE request_id = 'r2'")
    done = run("verify")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("dashbelle: the ledger is not sound: the settlement of r2 (line 4): its content ")
    assert done.stderr.count("\n") == 1


def test_a_forged_ledger_as_json(run: Run, home: Path) -> None:
    forge(home, "UPDATE settlements SET output_tokens = 1 WHERE request_id = 'r2'")
    done = run("verify", "--json")
    verdict = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (verdict["ok"], verdict["lines"]) == (False, 3)
    assert verdict["fault"] == {
        "what": "its content or the line before it is not what its hash was made of",
        "position": 4,
        "line": "settlement",
        "request_id": "r2",
    }


def test_a_forged_sum_is_named(run: Run, home: Path) -> None:
    forge(home, "UPDATE rollups SET calls = 9")
    assert "the ledger is not sound: the sum of 2026-01-31, key ci, model m, stop" in run("verify").stderr


def test_a_witness_is_a_head_that_was_printed_before(run: Run) -> None:
    head = json.loads(run("verify", "--json").stdout)["head"]
    assert run("verify", "--witness", head).exit_code == 0
    longer = f"7:{'0' * 64}"
    assert "the witness has seen 7 lines" in run("verify", "--witness", longer).stderr
    other = run("verify", "--witness", f"6:{'0' * 64}")
    assert other.exit_code == 1
    assert "the settlement of r3 (line 6): its hash is not the witness's" in other.stderr


def test_a_witness_that_is_none_is_one_line_and_exit_code_2(run: Run) -> None:
    failed = run("verify", "--witness", "yesterday")
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr.startswith("dashbelle: --witness 'yesterday': use a head")
    assert failed.stderr.count("\n") == 1


def test_the_help_says_where_the_limits_of_the_proof_are(run: Run) -> None:
    assert "docs/billing.md" in run("verify", "--help").stdout
