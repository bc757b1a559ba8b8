"""Sums from rollups: equal to the receipts for any period, and read without a look at the settlements."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Select, text
from sqlalchemy.dialects import sqlite

from dashbelle.metering.ledger import By, Ledger, Reservation, Settlement, _order, _receipts
from dashbelle.metering.rollups import queries
from dashbelle.metering.tables import reservations
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason, Receipt

MIDNIGHT = datetime(2026, 1, 31, tzinfo=UTC)
CALLS = 160
MOMENTS = [
    None,
    MIDNIGHT - timedelta(hours=5),
    MIDNIGHT,
    MIDNIGHT + timedelta(hours=7),
    MIDNIGHT + timedelta(hours=7, minutes=20),
    MIDNIGHT + timedelta(hours=7, minutes=40),
    MIDNIGHT + timedelta(hours=9),
    MIDNIGHT + timedelta(days=1),
    MIDNIGHT + timedelta(days=2, microseconds=1),
    MIDNIGHT + timedelta(days=3),
    MIDNIGHT + timedelta(days=30),
]


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """Calls that end every half an hour of some days, under two keys and three pairs of models."""
    async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
        ledger = Ledger(store)
        await asyncio.gather(*(one(ledger, number) for number in range(CALLS)))
        yield ledger


async def one(ledger: Ledger, number: int) -> None:
    at = MIDNIGHT + timedelta(minutes=30 * (number - 8))
    model, served = [("belle", "belle"), ("belle", "smol"), ("smol", "smol")][number % 3]
    call = Reservation(f"r{number:03}", number % 2, f"key-{number % 2}", None, model, served, number, 100, at)
    await ledger.reserve(call)
    reason = EndReason.STOP if number % 5 else EndReason.TIMEOUT
    await ledger.settle(Settlement(call.request_id, number, 2 * number, reason, 0.0, None, at))


def group_of(by: By, receipt: Receipt) -> str:
    if by is By.DAY:
        return f"{receipt.ended_at:%Y-%m-%d}"
    if by is By.KEY:
        return receipt.key
    same = receipt.model == receipt.served_model
    return receipt.model if same else f"{receipt.model} (served by {receipt.served_model})"


@pytest.mark.parametrize("by", By)
async def test_sums_equal_the_receipts_of_any_period(ledger: Ledger, by: By) -> None:
    periods = [(since, until) for since in MOMENTS for until in MOMENTS]
    for since, until in periods:
        calls: Counter[str] = Counter()
        tokens: Counter[str] = Counter()
        async for receipt in ledger.receipts(since, until):
            group = group_of(by, receipt)
            calls[group] += 1
            tokens[group] += receipt.input_tokens + receipt.output_tokens
        told = await ledger.sums(by, since, until)
        assert [one_sum.group for one_sum in told] == sorted(calls)
        assert {one_sum.group: one_sum.calls for one_sum in told} == calls
        assert {one_sum.group: one_sum.input_tokens + one_sum.output_tokens for one_sum in told} == tokens


def plan_of(connection: Connection, query: Select[*tuple[object, ...]]) -> str:
    """How SQLite will go about it."""
    asked = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    return "\n".join(row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {asked}")))


async def plans_of(ledger: Ledger, by: By, since: datetime | None, until: datetime | None) -> list[str]:
    return await ledger._store.read(lambda connection: [plan_of(connection, one) for one in queries(by, since, until)])


@pytest.mark.parametrize("by", By)
@pytest.mark.parametrize(
    ("since", "until", "asked"),
    [
        (None, None, 1),
        (MIDNIGHT, None, 1),
        (MIDNIGHT, MIDNIGHT + timedelta(days=3), 1),
        (MIDNIGHT + timedelta(hours=1), MIDNIGHT + timedelta(days=2, hours=1), 3),
        (MIDNIGHT + timedelta(hours=1), MIDNIGHT + timedelta(hours=3), 1),
    ],
)
async def test_whole_days_and_hours_are_summed_without_touching_a_settlement(
    ledger: Ledger, by: By, *, since: datetime | None, until: datetime | None, asked: int
) -> None:
    plans = await plans_of(ledger, by, since, until)
    assert len(plans) == asked
    for plan in plans:
        assert "SEARCH rollups USING PRIMARY KEY (unit=? AND span" in plan or "(unit=?)" in plan
        assert "settlements" not in plan
        assert "reservations" not in plan


@pytest.mark.parametrize("by", By)
async def test_a_part_of_an_hour_is_found_by_index_and_never_by_a_scan(ledger: Ledger, by: By) -> None:
    since, until = MIDNIGHT + timedelta(hours=1, minutes=1), MIDNIGHT + timedelta(days=2, hours=1, minutes=1)
    *_, first, _, last = await plans_of(ledger, by, since, until)
    for plan in (first, last):
        assert "SEARCH settlements USING INDEX settlements_ended_at (ended_at>? AND ended_at<?)" in plan
        assert "SCAN settlements" not in plan
        assert "SCAN reservations" not in plan


@pytest.mark.parametrize("days", [0, 1, 5])
def test_less_than_an_hour_at_each_end_is_left_to_settlements(days: int) -> None:
    since, until = MIDNIGHT + timedelta(minutes=1), MIDNIGHT + timedelta(days=days, hours=5, seconds=59)
    asked = [str(query) for query in queries(By.KEY, since, until)]
    assert sum("settlements" in query for query in asked) == 2
    assert sum("rollups" in query for query in asked) == len(asked) - 2 > 0


async def test_the_newest_calls_and_a_receipt_are_found_by_index(ledger: Ledger) -> None:
    newest = _receipts.order_by(*(column.desc() for column in _order)).limit(9)
    one_call = _receipts.where(reservations.c.request_id == "r", reservations.c.key_id == 1)
    for query in (newest, one_call):
        plan = await ledger._store.read(partial(plan_of, query=query))
        assert "TEMP B-TREE" not in plan
        assert "SCAN" not in plan.replace("SCAN settlements USING INDEX settlements_ended_at", "")
