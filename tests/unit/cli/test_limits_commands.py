"""`dashbelle limits` and `dashbelle prices`: what is set is listed, and what makes no sense is one line."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command import Run, runner_of

from dashbelle.cli import keys, limits, prices
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason

run_limits = runner_of(limits.app)
run_prices = runner_of(prices.app)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(home: Path) -> Run:
    return run_limits(home)


@pytest.fixture
def price(home: Path) -> Run:
    return run_prices(home)


def listed(run: Run) -> list[tuple[str, str | None, str, str | None, str]]:
    lines = map(json.loads, run("list", "--json").stdout.splitlines())
    return [(line["scope"], line["name"], line["kind"], line["period"], line["amount"]) for line in lines]


def use(home: Path, key: str) -> None:
    """One settled call and one that runs: 11 tokens spent, 108 reserved."""

    async def call() -> None:
        now = datetime.now(UTC)
        async with Store.open(f"sqlite:///{home}/dashbelle.db") as store:
            ledger = Ledger(store)
            for request_id in ("done", "running"):
                await ledger.reserve(Reservation(request_id, 1, key, None, "m", "m", 8, 100, now))
            await ledger.settle(Settlement("done", 8, 3, EndReason.STOP, 0.0, None, now))

    asyncio.run(call())


def test_one_command_sets_several_limits(run: Run, home: Path) -> None:
    runner_of(keys.app)(home)("create", "--name", "ci")
    done = run("set", "--key", "ci", "--rpm", "60", "--tpm", "10000", "--concurrent", "4", "--share", "2.5")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert listed(run) == [
        ("key", "ci", "concurrent", None, "4"),
        ("key", "ci", "rpm", None, "60"),
        ("key", "ci", "share", None, "2.5"),
        ("key", "ci", "tpm", None, "10000"),
    ]


def test_a_limit_of_everybody_has_no_name(run: Run) -> None:
    run("set", "--each-key", "--tokens", "1000", "--per", "day")
    run("set", "--each-model", "--concurrent", "4")
    run("set", "--model", "belle", "--rpm", "0")
    assert listed(run) == [
        ("key", None, "tokens", "day", "1000"),
        ("model", None, "concurrent", None, "4"),
        ("model", "belle", "rpm", None, "0"),
    ]


def test_a_budget_is_listed_with_what_was_used_of_it(run: Run, home: Path) -> None:
    run("set", "--each-key", "--tokens", "1000", "--per", "day")
    use(home, "ci")
    (line,) = map(json.loads, run("list", "--json").stdout.splitlines())
    assert line["used"] == [{"name": "ci", "spent": "11", "reserved": "108"}]
    shown = run("list").stdout
    assert "1000 tokens per day" in shown
    assert "119 by ci" in shown


def test_money_is_exact(run: Run, price: Run) -> None:
    price("set", "m", "--input", "0.80", "--output", "2")
    done = run("set", "--key", "ci", "--money", "5.000000001", "--per", "total")
    assert "is free" not in done.stderr
    assert listed(run) == [("key", "ci", "money", "total", "5.000000001")]
    assert json.loads(price("list", "--json").stdout) == {"model": "m", "input": "0.80", "output": "2.00"}


def test_a_key_that_is_not_there_and_prices_that_are_not_set_are_said(run: Run) -> None:
    done = run("set", "--key", "ci", "--money", "5", "--per", "month")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "There is no live key named 'ci' yet.",
        "No model has a price, so everything is free: dashbelle prices set",
    ]


def test_removing_takes_a_kind_or_everything(run: Run) -> None:
    run("set", "--key", "ci", "--rpm", "60", "--tokens", "1000", "--per", "day")
    run("set", "--key", "ci", "--tokens", "9000", "--per", "month")
    assert run("remove", "tokens", "--key", "ci", "--per", "day").stderr == "Limits lifted: 1.\n"
    assert listed(run) == [("key", "ci", "rpm", None, "60"), ("key", "ci", "tokens", "month", "9000")]
    assert run("remove", "--key", "ci").stderr == "Limits lifted: 2.\n"
    assert listed(run) == []
    again = run("remove", "--key", "ci")
    assert (again.exit_code, again.stderr) == (1, "dashbelle: there is no such limit\n")


def test_the_table_fits_80_columns_and_loses_no_name(run: Run) -> None:
    run("set", "--key", "q" * 64, "--tokens", "1000000", "--per", "month", "--rpm", "60")
    shown = run("list").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("q") == 128


def test_nothing_is_said_in_words_for_people_and_by_silence_for_machines(run: Run, price: Run) -> None:
    assert run("list").stdout == "No limits. Set one: dashbelle limits set --key NAME --rpm 60\n"
    assert run("list", "--json").stdout == ""
    assert price("list").stdout.startswith("No prices: every model is free.")
    assert price("list", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "--rpm", "1"), "name one of --key NAME, --model NAME"),
        (("set", "--key", "a", "--model", "b", "--rpm", "1"), "name one of --key NAME"),
        (("set", "--key", "", "--rpm", "1"), "name one of --key NAME"),
        (("set", "--key", "a"), "name at least one of --rpm"),
        (("set", "--key", "a", "--tokens", "1"), "--tokens and --money need --per"),
        (("set", "--key", "a", "--rpm", "1", "--per", "day"), "--tokens and --money need --per"),
        (("set", "--key", "a", "--tokens", "1", "--per", "week"), "--per 'week': use day, month, total"),
        (("set", "--key", "a", "--money", "cheap", "--per", "day"), "--money 'cheap': use a number such as 2.5"),
        (("set", "--key", "a", "--money", "0.0000000001", "--per", "day"), "--money '0.0000000001': use"),
        (("set", "--key", "a", "--money", "nan", "--per", "day"), "--money 'nan': use"),
        (("set", "--key", "a", "--share", "-1"), "--share '-1': use a number"),
        (("set", "--key", "a", "--share", "0"), "a share is above 0"),
        (("set", "--model", "a", "--share", "2"), "a share is above 0 and belongs to a key"),
        (("set", "--key", "a", "--rpm", str(2**60)), "a limit is from 0 to"),
        (("remove", "speed", "--key", "a"), "'speed': use one of rpm, tpm"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    failed = run(*arguments)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert failed.stderr.startswith(f"dashbelle: {message}")
    assert failed.stderr.count("\n") == 1
    assert listed(run) == []


def test_prices_are_replaced_and_removed(price: Run) -> None:
    price("set", "m", "--input", "0.8", "--output", "2")
    price("set", "m", "--input", "0.001", "--output", "0")
    shown = price("list").stdout
    assert "0.001" in shown
    assert "0.80" not in shown
    assert price("remove", "m").exit_code == 0
    again = price("remove", "m")
    assert (again.exit_code, again.stderr) == (1, "dashbelle: 'm' has no price\n")


def test_a_price_finer_than_a_billionth_per_token_is_refused(price: Run) -> None:
    failed = price("set", "m", "--input", "0.0001", "--output", "2")
    assert (failed.exit_code, failed.stderr.count("\n")) == (2, 1)
    assert failed.stderr.startswith("dashbelle: --input '0.0001': use a number such as 2.5, with at most 3 decimals")


@pytest.mark.parametrize("command", ["set", "list", "remove"])
def test_every_help_has_examples(run: Run, price: Run, command: str) -> None:
    assert f"dashbelle limits {command}" in run(command, "--help").stdout
    assert f"dashbelle prices {command}" in price(command, "--help").stdout
