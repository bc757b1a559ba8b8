"""Budgets on every database: never passed by any concurrency, and adding up whatever happens."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import text

from dashbelle.errors import BudgetUsedUp, FreeTierUsedUp, MoneyUsedUp
from dashbelle.metering.budgets import Balance, Price
from dashbelle.metering.ledger import By, Ledger, Reservation, Settlement
from dashbelle.metering.limits import Limits
from dashbelle.metering.verify import verify
from dashbelle.store import Store
from dashbelle.vocabulary import BudgetPeriod, EndReason, Limit, LimitKind, LimitScope

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = BudgetPeriod.DAY
TOTAL = BudgetPeriod.TOTAL
_ids = count()


def reservation(
    *, key: str = "ci", model: str = "belle", tokens: tuple[int, int] = (8, 92), at: datetime = NOON
) -> Reservation:
    return Reservation(f"r{next(_ids):06}", 1, key, None, model, "smol", *tokens, at)


def settlement(of: Reservation, output_tokens: int, *, reason: EndReason = EndReason.STOP) -> Settlement:
    waited = 0 if reason is EndReason.CLIENT_GONE else of.input_tokens
    return Settlement(of.request_id, waited, output_tokens, reason, 0.0, None, of.started_at)


async def budget(
    store: Store,
    amount: int,
    name: str | None = "ci",
    *,
    kind: LimitKind = LimitKind.TOKENS,
    period: BudgetPeriod = TOTAL,
) -> None:
    await Limits(store).set(Limit(LimitScope.KEY, name, kind, amount, period))


async def balances(store: Store, now: datetime = NOON) -> list[tuple[str, Balance]]:
    """Of all budgets, one after the other."""
    standings = await Limits(store, now=lambda: now).standings()
    return [(one.name, one.balance) for _, used in standings for one in used]


async def test_a_call_reserves_its_worst_case_and_is_charged_what_it_used(store: Store) -> None:
    await budget(store, 1000)
    ledger, call = Ledger(store), reservation()
    await ledger.reserve(call)
    assert await balances(store) == [("ci", Balance(spent=0, reserved=100))]
    await ledger.settle(settlement(call, 3))
    assert await balances(store) == [("ci", Balance(spent=11, reserved=0))]
    assert await store.read(lambda connection: connection.scalar(text("SELECT count(*) FROM holds"))) == 0
    await ledger.settle(settlement(call, 90))
    assert await balances(store) == [("ci", Balance(spent=11, reserved=0))]


async def test_a_refused_call_leaves_no_trace(store: Store) -> None:
    await budget(store, 150)
    await budget(store, 1000, kind=LimitKind.TOKENS, period=DAY)
    ledger = Ledger(store)
    await ledger.reserve(reservation())
    with pytest.raises(BudgetUsedUp, match=r"'ci' has used 0 of 150 tokens in total, 100 reserved"):
        await ledger.reserve(reservation())
    assert await balances(store) == [("ci", Balance(0, 100)), ("ci", Balance(0, 100))]
    verdict = await verify(store)
    assert (verdict.lines, verdict.fault) == (1, None)


async def test_calls_of_others_are_not_touched_by_a_refusal_of_their_group(store: Store) -> None:
    await budget(store, 0)
    ledger = Ledger(store)
    calls = [reservation(key="ci" if number % 2 else "phone") for number in range(40)]
    results = await asyncio.gather(*map(ledger.reserve, calls), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), FreeTierUsedUp] * 20
    assert (await verify(store)).lines == 20


async def test_a_day_is_charged_where_its_call_began(store: Store) -> None:
    await budget(store, 100, period=DAY)
    ledger, late = Ledger(store), reservation(at=NOON.replace(hour=23, minute=59))
    await ledger.reserve(late)
    with pytest.raises(BudgetUsedUp) as caught:
        await ledger.reserve(reservation())
    assert caught.value.retry_after_s == 5
    tomorrow = NOON + timedelta(days=1)
    await ledger.reserve(reservation(at=tomorrow))
    await ledger.settle(Settlement(late.request_id, 8, 92, EndReason.LENGTH, 0.0, None, tomorrow))
    assert await balances(store) == [("ci", Balance(100, 0))]
    assert await balances(store, tomorrow) == [("ci", Balance(0, 100))]
    with pytest.raises(BudgetUsedUp) as caught:
        await ledger.reserve(reservation())
    assert caught.value.retry_after_s == 12 * 3600


async def test_money_is_charged_by_the_answering_models_price_of_when_the_call_began(store: Store) -> None:
    await budget(store, 300_000, kind=LimitKind.MONEY)
    limits, ledger, call = Limits(store), Ledger(store), reservation()
    await limits.set_price("smol", Price(800, 2000))
    await limits.set_price("belle", Price(10**9, 10**9))
    await ledger.reserve(call)
    assert await balances(store) == [("ci", Balance(0, 8 * 800 + 92 * 2000))]
    await limits.set_price("smol", Price(1, 1))
    await ledger.settle(settlement(call, 50))
    assert await balances(store) == [("ci", Balance(8 * 800 + 50 * 2000, 0))]
    await limits.set_price("smol", Price(800, 2000))
    with pytest.raises(MoneyUsedUp, match=r"has used 0\.0001064 of 0\.0003 of money in total"):
        await ledger.reserve(reservation(tokens=(8, 95)))
    await limits.remove_price("smol")
    await ledger.reserve(reservation(tokens=(8, 95)))


async def test_every_key_has_its_own_balance_of_a_budget_for_each(store: Store) -> None:
    await budget(store, 150, None)
    await budget(store, 500, "rich")
    ledger = Ledger(store)
    for key in ("a", "b", "rich", "rich"):
        await ledger.reserve(reservation(key=key))
    with pytest.raises(BudgetUsedUp, match="'a' has used"):
        await ledger.reserve(reservation(key="a"))
    assert await balances(store) == [("a", Balance(0, 100)), ("b", Balance(0, 100)), ("rich", Balance(0, 200))]


async def test_a_models_budget_counts_what_it_was_asked_for_and_what_it_answered(store: Store) -> None:
    limits, ledger = Limits(store, now=lambda: NOON), Ledger(store)
    await limits.set(Limit(LimitScope.MODEL, None, LimitKind.TOKENS, 1000, TOTAL))
    calls = [reservation(model="belle"), reservation(model="smol")]
    for call in calls:
        await ledger.reserve(call)
    assert await balances(store) == [("belle", Balance(0, 100)), ("smol", Balance(0, 200))]
    for call in calls:
        await ledger.settle(settlement(call, 2))
    assert await balances(store) == [("belle", Balance(10, 0)), ("smol", Balance(20, 0))]


async def test_a_client_that_never_left_the_waiting_line_gets_everything_back(store: Store) -> None:
    await budget(store, 100)
    ledger, call = Ledger(store), reservation()
    await ledger.reserve(call)
    await ledger.settle(settlement(call, 0, reason=EndReason.CLIENT_GONE))
    assert await balances(store) == [("ci", Balance(0, 0))]
    await ledger.reserve(reservation())


async def test_what_dead_processes_reserved_is_dropped_at_the_next_start(url: str, store: Store) -> None:
    await budget(store, 1000)
    async with Store.open(url) as dead:
        for _ in range(3):
            await Ledger(dead).reserve(reservation())
    mine = reservation()
    await Ledger(store).reserve(mine)
    assert await Ledger(store).settle_crashed(NOON) == 3
    assert await balances(store) == [("ci", Balance(0, 100))]
    await Ledger(store).settle(settlement(mine, 1))
    assert await balances(store) == [("ci", Balance(9, 0))]


async def test_a_lifted_budget_lets_its_running_calls_end(store: Store) -> None:
    await budget(store, 100)
    ledger, call = Ledger(store), reservation()
    await ledger.reserve(call)
    await Limits(store).remove(LimitScope.KEY, "ci")
    assert await ledger.settle(settlement(call, 3))
    assert await balances(store) == []


async def test_a_smaller_budget_refuses_at_once_and_keeps_what_was_spent(store: Store) -> None:
    await budget(store, 1000)
    ledger, call = Ledger(store), reservation()
    await ledger.reserve(call)
    await ledger.settle(settlement(call, 92))
    await budget(store, 150)
    with pytest.raises(BudgetUsedUp, match="100 of 150 tokens"):
        await ledger.reserve(reservation())


@pytest.mark.parametrize("stores", [1, 4])
async def test_20_callers_at_once_never_pass_a_budget_and_use_all_of_it(url: str, store: Store, stores: int) -> None:
    """Each call may use 100 tokens and uses 50; the quota is 40 calls' worth of what they use."""
    quota = 2000
    await budget(store, quota)
    await budget(store, quota, None, period=DAY)
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(Store.open(url)) for _ in range(stores)]
        most = await asyncio.gather(*(spend(Ledger(opened[number % stores]), store) for number in range(20)))
    assert max(most) <= quota
    (_, of_day), (_, total) = await balances(store)
    assert of_day == total
    assert quota - 100 < total.spent <= quota
    assert total.reserved == 0
    (told,) = await Ledger(store).sums(By.KEY)
    assert told.input_tokens + told.output_tokens == total.spent
    assert (await verify(store)).fault is None


async def spend(ledger: Ledger, store: Store) -> int:
    """Call until the budget is used up; the most that was ever used and reserved together."""
    most = 0
    while True:
        call = reservation()
        try:
            await ledger.reserve(call)
        except BudgetUsedUp as refused:
            if "running calls have ended" not in refused.message:
                return most
            continue
        for _, balance in await balances(store):
            most = max(most, balance.spent + balance.reserved)
        await ledger.settle(settlement(call, 42))


SPEND = """
import asyncio, sys, uuid
from datetime import UTC, datetime
from dashbelle.errors import BudgetUsedUp
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason

async def main():
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    used = 0
    async with Store.open(sys.argv[1]) as store:
        ledger = Ledger(store)
        sys.stdout.write("ready\\n")
        sys.stdout.flush()
        sys.stdin.readline()
        while True:
            request_id = str(uuid.uuid4())
            try:
                await ledger.reserve(Reservation(request_id, 1, "ci", None, "belle", "smol", 8, 92, at))
            except BudgetUsedUp as refused:
                if "running calls have ended" not in refused.message:
                    break
                await asyncio.sleep(0.01)
                continue
            await ledger.settle(Settlement(request_id, 8, 42, EndReason.STOP, 0.0, None, at))
            used += 50
    print(used)

asyncio.run(main())
"""


async def test_processes_at_once_never_pass_a_budget(url: str, store: Store) -> None:
    quota = 3000
    await budget(store, quota)
    children = [start(SPEND, url) for _ in range(6)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    used = [int(child.communicate()[0]) for child in children]
    assert quota - 100 < sum(used) <= quota
    assert await balances(store) == [("ci", Balance(sum(used), 0))]
    assert (await verify(store)).fault is None


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdin=pipe, stdout=pipe, text=True)
