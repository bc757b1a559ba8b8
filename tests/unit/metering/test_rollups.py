"""Sums from rollups: equal to the receipts for any period, and read without a look at the settlements."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
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
HOURS = 80
MOMENTS = [
    None,
    MIDNIGHT - timedelta(hours=5),
    MIDNIGHT,
    MIDNIGHT + timedelta(hours=7),
    MIDNIGHT + timedelta(hours=9),
    MIDNIGHT + timedelta(days=1),
    MIDNIGHT + timedelta(days=2, microseconds=1),
    MIDNIGHT + timedelta(days=3),
    MIDNIGHT + timedelta(days=30),
]


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """A call that ends at every hour of some days, under two keys and three pairs of models."""
    async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
        ledger = Ledger(store)
        await asyncio.gather(*(one(ledger, number) for number in range(HOURS)))
        yield ledger


async def one(ledger: Ledger, number: int) -> None:
    at = MIDNIGHT + timedelta(hours=number - 4)
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


@pytest.mark.parametrize("by", By)
@pytest.mark.parametrize(("since", "until"), [(None, None), *pairwise((MIDNIGHT, MIDNIGHT + timedelta(days=3), None))])
async def test_whole_days_are_summed_without_touching_a_settlement(
    ledger: Ledger, by: By, since: datetime | None, until: datetime | None
) -> None:
    plans = await ledger._store.read(lambda connection: [plan_of(connection, one) for one in queries(by, since, until)])
    assert len(plans) == 1
    assert "rollups" in plans[0]
    assert "settlements" not in plans[0]
    assert "reservations" not in plans[0]


@pytest.mark.parametrize("by", By)
async def test_a_part_of_a_day_is_found_by_index_and_never_by_a_scan(ledger: Ledger, by: By) -> None:
    since, until = MIDNIGHT + timedelta(hours=1), MIDNIGHT + timedelta(days=2, hours=1)
    plans = await ledger._store.read(lambda connection: [plan_of(connection, one) for one in queries(by, since, until)])
    assert len(plans) == 3
    for plan in plans[1:]:
        assert "SEARCH settlements USING INDEX settlements_ended_at" in plan
        assert "SCAN settlements" not in plan
        assert "SCAN reservations" not in plan


async def test_the_newest_calls_and_a_receipt_are_found_by_index(ledger: Ledger) -> None:
    newest = _receipts.order_by(*(column.desc() for column in _order)).limit(9)
    one_call = _receipts.where(reservations.c.request_id == "r", reservations.c.key_id == 1)
    for query in (newest, one_call):
        plan = await ledger._store.read(partial(plan_of, query=query))
        assert "TEMP B-TREE" not in plan
        assert "SCAN" not in plan.replace("SCAN settlements USING INDEX settlements_ended_at", "")
