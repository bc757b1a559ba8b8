"""`dashbelle usage`: every settled call as data, the newest ones for people, and honest sums."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import IO

import pytest
from command import Run, runner_of
from rich.cells import cell_len

from dashbelle.cli import usage
from dashbelle.cli.usage import NEWEST, BadMoment, Period, moment
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
run_usage = runner_of(usage.app)


def fill(
    home: Path, calls: int, *, key: str = "ci", model: str = "belle-llama-13b-2m-v1", ended: datetime = NOON
) -> None:
    async def one(ledger: Ledger, number: int) -> None:
        request_id = f"{key}-{number:03}"
        await ledger.reserve(Reservation(request_id, 1, key, None, model, "smollm2-135m-instruct", 8, 100, ended))
        ended_at = ended + timedelta(seconds=number)
        await ledger.settle(Settlement(request_id, 8, 3, EndReason.CLIENT_GONE, 0.0, None, ended_at))

    async def write() -> None:
        async with Store.open(f"sqlite:///{home}/dashbelle.db") as store:
            ledger = Ledger(store)
            await asyncio.gather(*(one(ledger, number) for number in range(calls)))

    asyncio.run(write())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    return run_usage(home)


def test_json_has_one_object_per_settled_call_oldest_first(run: Run, home: Path) -> None:
    fill(home, NEWEST + 5)
    lines = [json.loads(line) for line in run("--json").stdout.splitlines()]
    assert [line["request_id"] for line in lines] == [f"ci-{number:03}" for number in range(NEWEST + 5)]
    assert lines[0] == {
        "request_id": "ci-000",
        "key": "ci",
        "model": "belle-llama-13b-2m-v1",
        "served_model": "smollm2-135m-instruct",
        "input_tokens": 8,
        "output_tokens": 3,
        "end_reason": "client_gone",
        "started_at": "2026-01-31T12:00:00.000000Z",
        "ended_at": "2026-01-31T12:00:00.000000Z",
    }


def test_csv_has_the_same_calls(run: Run, home: Path) -> None:
    fill(home, 2)
    rows = list(csv.DictReader(run("--csv").stdout.splitlines()))
    assert [row["request_id"] for row in rows] == ["ci-000", "ci-001"]


def test_the_table_shows_the_newest_calls_and_who_really_served(run: Run, home: Path) -> None:
    fill(home, NEWEST + 1)
    shown = run().stdout
    assert shown.count("client_gone") == NEWEST
    assert "by smollm2-135m-instruct" in shown
    assert "2026-01-31 12:00" in shown
    assert f"The newest {NEWEST}" in shown


@pytest.mark.parametrize("arguments", [(), ("--by", "key"), ("--by", "model")])
def test_tables_fit_80_columns_and_lose_no_name(run: Run, home: Path, arguments: tuple[str, ...]) -> None:
    key, model = "q" * 64, "模型" * 16
    fill(home, 1, key=key, model=model)
    lines = run(*arguments).stdout.splitlines()
    assert max(map(cell_len, lines)) <= 80
    shown = "".join(lines)
    if "model" not in arguments:
        assert shown.count("q") == len(key)
    if "key" not in arguments:
        assert sum(shown.count(letter) for letter in "模型") == len(model)


def test_columns_stay_in_line_beside_chinese_names(run: Run, home: Path) -> None:
    fill(home, 1, key="a", model="百川模型")
    fill(home, 1, key="b", model="plain")
    rows = [line for line in run().stdout.splitlines() if "client_gone" in line]
    assert len({cell_len(row[: row.index("client_gone")]) for row in rows}) == 1


def test_sums_end_with_their_total(run: Run, home: Path) -> None:
    fill(home, 3, key="a")
    fill(home, 2, key="b", ended=NOON + timedelta(days=1))
    by_key = [line.split() for line in run("--by", "key").stdout.splitlines() if line.split()]
    assert ["a", "3", "24", "9"] in by_key
    assert ["total", "5", "40", "15"] in by_key
    by_day = [line.split() for line in run("--by", "day").stdout.splitlines() if line.split()]
    assert ["2026-02-01", "2", "16", "6"] in by_day


def test_a_period_bounds_what_is_printed(run: Run, home: Path) -> None:
    fill(home, 1, key="a")
    fill(home, 1, key="b", ended=NOON + timedelta(days=1))
    fill(home, 1, key="c", ended=NOON + timedelta(days=2))
    printed = run("--json", "--since", "2026-02-01", "--until", "2026-02-01").stdout
    assert [json.loads(line)["key"] for line in printed.splitlines()] == ["b"]


def test_nothing_is_said_in_words_for_people_and_by_silence_for_machines(run: Run) -> None:
    assert run().stdout == "No settled calls yet.\n"
    assert run("--by", "day").stdout == "No settled calls yet.\n"
    assert run("--since", "7d").stdout == "No settled calls in this period.\n"
    assert run("--json").stdout == ""
    assert len(run("--csv").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "--csv"), "use only one of --json, --csv and --by"),
        (("--json", "--by", "day"), "use only one of --json, --csv and --by"),
        (("--by", "week"), "--by 'week': use day, key, model"),
        (("--since", "soon"), "--since 'soon': use a date (2026-01-31)"),
        (("--until", ""), "--until '': use a date"),
        (("--since", "1d", "--until", "2d"), "--since 1d is not before --until 2d"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    failed = run(*arguments)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr.startswith(f"dashbelle: {message}")
    assert failed.stderr.count("\n") == 1


def test_the_help_has_examples(run: Run) -> None:
    assert "dashbelle usage --since 7d" in run("--help").stdout


def process_of(home: Path, *arguments: str, stdout: IO[str] | int) -> subprocess.Popen[bytes]:
    """A real process: what it writes at its exit, only its parent sees."""
    command = [sys.executable, "-c", "from dashbelle.cli import usage; usage.app()", *arguments]
    environment = {"DASHBELLE_HOME": str(home)}
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=environment)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_output_that_cannot_be_written_is_one_line_and_exit_code_1(home: Path) -> None:
    fill(home, 1)
    with Path("/dev/full").open("w") as full, process_of(home, "--json", stdout=full) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"dashbelle: cannot write the output: No space left on device\n"
    assert process.returncode == 1


def test_a_reader_that_leaves_is_met_with_silence(home: Path) -> None:
    fill(home, 600)  # more than a pipe holds
    with process_of(home, "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", NOON.replace(hour=0)),
        ("2026-01-31T12:00", NOON),
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31 20:00+08:00", NOON),
        ("7d", NOON - timedelta(days=7)),
        ("12h", NOON - timedelta(hours=12)),
        ("30m", NOON - timedelta(minutes=30)),
    ],
)
def test_a_moment_is_a_date_a_time_or_an_age(text: str, expected: datetime) -> None:
    assert moment("--since", text, NOON) == expected


@pytest.mark.parametrize(
    "text", ["", "d", "-1d", "999999d", "7w", "2026-13-01", "2026-01-31T25:00", "٧d", "9999-12-31"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadMoment):
        moment("--until", text, NOON, whole_day=True)


def test_until_a_date_includes_that_day_and_until_a_time_does_not() -> None:
    beijing = timezone(timedelta(hours=8))
    period = Period.of("2026-01-31", "2026-01-31", NOON)
    assert (period.since, period.until) == (NOON.replace(hour=0), NOON.replace(month=2, day=1, hour=0))
    assert Period.of(None, "2026-01-31T00:00+08:00", NOON).until == datetime(2026, 1, 31, tzinfo=beijing)
    assert Period.of(None, None, NOON) == Period(None, None)
