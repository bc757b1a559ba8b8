"""Limits as people set them: checked, replaced, and seen by others within half a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from books import NOON, Clock

from dashbelle.admission.keys import Keys
from dashbelle.metering.budgets import Price
from dashbelle.metering.limits import HIGHEST, REMEMBERED_S, BadLimit, Limits
from dashbelle.store import Store
from dashbelle.vocabulary import BudgetPeriod, Limit, LimitKind, LimitScope

RPM = Limit(LimitScope.KEY, "ci", LimitKind.REQUESTS_PER_MINUTE, 60)
BUDGET = Limit(LimitScope.KEY, None, LimitKind.TOKENS, 1000, BudgetPeriod.DAY)
OF_MODEL = Limit(LimitScope.MODEL, "belle", LimitKind.CONCURRENT_CALLS, 4)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
        yield store


@pytest.fixture
def limits(store: Store, clock: Clock) -> Limits:
    return Limits(store, clock=clock, now=lambda: NOON)


async def test_limits_come_back_as_they_were_set(limits: Limits) -> None:
    for limit in (RPM, BUDGET, OF_MODEL):
        await limits.set(limit)
    assert set(await limits.in_force()) == {RPM, BUDGET, OF_MODEL}


async def test_a_limit_replaces_the_one_of_its_subject_kind_and_period(limits: Limits) -> None:
    month = replace(BUDGET, period=BudgetPeriod.MONTH)
    for limit in (RPM, BUDGET, month, replace(RPM, amount=5)):
        await limits.set(limit)
    assert set(await limits.in_force()) == {replace(RPM, amount=5), BUDGET, month}


async def test_a_limit_knows_its_live_key(limits: Limits, store: Store) -> None:
    keys = Keys(store, bytes(32))
    await keys.create("ci")
    await keys.revoke("ci")
    secret = await keys.create("ci")
    await keys.create("belle")
    await limits.set(RPM)
    await limits.set(OF_MODEL)
    caller = await keys.identify(secret)
    assert set(await limits.in_force()) == {replace(RPM, key_id=caller.key_id), OF_MODEL}


async def test_a_snapshot_is_kept_for_half_a_second_and_no_longer(limits: Limits, store: Store, clock: Clock) -> None:
    assert await limits.in_force() == ()
    await Limits(store).set(RPM)
    clock.seconds = REMEMBERED_S - 0.01
    assert await limits.in_force() == ()
    clock.seconds = REMEMBERED_S
    assert await limits.in_force() == (RPM,)


async def test_a_change_of_ones_own_is_seen_at_once(limits: Limits) -> None:
    await limits.in_force()
    await limits.set(RPM)
    assert await limits.in_force() == (RPM,)
    assert await limits.remove(LimitScope.KEY, "ci") == 1
    assert await limits.in_force() == ()


async def test_removing_takes_what_was_named_and_nothing_else(limits: Limits) -> None:
    month = replace(BUDGET, period=BudgetPeriod.MONTH)
    each_rpm = replace(RPM, name=None)
    for limit in (RPM, BUDGET, month, OF_MODEL, each_rpm):
        await limits.set(limit)
    assert await limits.remove(LimitScope.KEY, None, LimitKind.TOKENS, BudgetPeriod.DAY) == 1
    assert set(await limits.in_force()) == {RPM, month, OF_MODEL, each_rpm}
    assert await limits.remove(LimitScope.KEY, None) == 2
    assert set(await limits.in_force()) == {RPM, OF_MODEL}
    assert await limits.remove(LimitScope.MODEL, "ci") == 0


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (replace(RPM, amount=-1), "a limit is from 0 to"),
        (replace(RPM, amount=HIGHEST + 1), "a limit is from 0 to"),
        (replace(RPM, period=BudgetPeriod.DAY), "no other limit has one"),
        (replace(BUDGET, period=None), "has a period"),
        (Limit(LimitScope.MODEL, "belle", LimitKind.SHARE, 200), "belongs to a key"),
        (Limit(LimitScope.KEY, "ci", LimitKind.SHARE, 0), "above 0"),
    ],
)
async def test_a_limit_that_makes_no_sense_is_refused(limits: Limits, limit: Limit, message: str) -> None:
    with pytest.raises(BadLimit, match=message):
        await limits.set(limit)
    assert await limits.in_force() == ()


async def test_prices_are_set_replaced_and_removed(limits: Limits) -> None:
    await limits.set_price("smol", Price(1, 2))
    await limits.set_price("smol", Price(3, 4))
    await limits.set_price("belle", Price(0, 0))
    assert await limits.prices() == {"belle": Price(0, 0), "smol": Price(3, 4)}
    assert await limits.remove_price("smol")
    assert not await limits.remove_price("smol")
    with pytest.raises(BadLimit, match="a price is from 0"):
        await limits.set_price("smol", Price(-1, 0))
