"""What every database must keep: committed means committed, for each caller alone, whatever fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from dashbelle.admission.keys import KeyNameTaken, Keys
from dashbelle.errors import InvalidApiKey, LedgerUnavailable
from dashbelle.metering.budgets import Balance
from dashbelle.metering.ledger import By, Ledger, Reservation, Settlement, Sum
from dashbelle.metering.limits import Limits
from dashbelle.metering.meter import Meter
from dashbelle.metering.verify import verify
from dashbelle.store import Store
from dashbelle.vocabulary import (
    BudgetPeriod,
    Call,
    Caller,
    Delta,
    EndReason,
    Limit,
    LimitKind,
    LimitScope,
    Receipt,
    TextPrompt,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def reservation(request_id: str) -> Reservation:
    return Reservation(request_id, 1, "k", None, "m", "m", 8, 100, NOON)


def settlement(request_id: str, ended_at: datetime = NOON) -> Settlement:
    return Settlement(request_id, 8, 3, EndReason.STOP, 0.0, None, ended_at)


async def collected(receipts: AsyncIterator[Receipt]) -> list[Receipt]:
    return [receipt async for receipt in receipts]


async def test_200_calls_at_once_are_all_durable(url: str) -> None:
    async with Store.open(url) as store:
        ledger = Ledger(store)

        async def run(request_id: str) -> None:
            await ledger.reserve(reservation(request_id))
            await ledger.settle(settlement(request_id))

        await asyncio.gather(*(run(f"r{number:03}") for number in range(200)))
    async with Store.open(url) as again:
        receipts = await collected(Ledger(again).receipts())
    assert [receipt.request_id for receipt in receipts] == [f"r{number:03}" for number in range(200)]


async def test_a_failing_work_among_many_leaves_the_others_committed(url: str, store: Store) -> None:
    ledger = Ledger(store)
    works = [ledger.reserve(reservation(f"r{number % 50}")) for number in range(100)]
    results = await asyncio.gather(*works, return_exceptions=True)
    assert results[:50] == [None] * 50
    assert {type(result) for result in results[50:]} == {IntegrityError}
    await store.close()
    async with Store.open(url) as again:
        assert await Ledger(again).settle_crashed(NOON) == 50
        assert (await verify(again)).fault is None


async def test_the_first_settlement_stands_among_racers(store: Store) -> None:
    ledger = Ledger(store)
    await ledger.reserve(reservation("r"))
    moments = [NOON + timedelta(seconds=number) for number in range(20)]
    firsts = await asyncio.gather(*(ledger.settle(settlement("r", moment)) for moment in moments))
    assert firsts == [True] + [False] * 19
    assert [receipt.ended_at for receipt in await collected(ledger.receipts())] == [NOON]


async def test_days_are_utc_days(store: Store) -> None:
    ledger = Ledger(store)
    for request_id, ended_at in (("a", NOON.replace(hour=23, minute=59)), ("b", NOON + timedelta(hours=12))):
        await ledger.reserve(reservation(request_id))
        await ledger.settle(settlement(request_id, ended_at))
    assert await ledger.sums(By.DAY) == [Sum("2026-01-31", 1, 8, 3), Sum("2026-02-01", 1, 8, 3)]


async def test_one_live_key_per_name_among_racers(store: Store) -> None:
    keys = Keys(store, bytes(32))
    results = await asyncio.gather(*(keys.create("laptop") for _ in range(10)), return_exceptions=True)
    secrets = [result for result in results if isinstance(result, str)]
    assert len(secrets) == 1
    assert [type(result) for result in results].count(KeyNameTaken) == 9
    assert (await keys.identify(secrets[0])).key_name == "laptop"


async def test_another_store_sees_a_key_and_its_revocation(url: str, store: Store) -> None:
    async with Store.open(url) as other:
        secret = await Keys(other, bytes(32)).create("laptop")
        assert (await Keys(store, bytes(32)).identify(secret)).key_name == "laptop"
        await Keys(other, bytes(32)).revoke("laptop")
        with pytest.raises(InvalidApiKey):
            await Keys(store, bytes(32)).identify(secret)


async def test_servers_that_write_at_once_keep_one_chain(url: str, store: Store) -> None:
    async with Store.open(url) as other:
        ledgers = (Ledger(store), Ledger(other))

        async def run(number: int) -> None:
            ledger = ledgers[number % 2]
            await ledger.reserve(reservation(f"r{number:03}"))
            await ledger.settle(settlement(f"r{number:03}"))

        await asyncio.gather(*map(run, range(200)))
    verdict = await verify(store)
    assert (verdict.lines, verdict.fault) == (400, None)


class FailAt:
    """Lets the database fail at its n-th statement from now, once; `reached` says whether there were so many."""

    def __init__(self, store: Store) -> None:
        self._left = 0
        self.reached = False
        for engine in store._engines:
            event.listen(engine, "before_cursor_execute", lambda *arguments: self._count(arguments[2]))
            if engine.dialect.name != "sqlite":  # there COMMIT is a statement of ours
                event.listen(engine, "commit", lambda _: self._count("COMMIT"))

    def arm(self, statement: int) -> None:
        self._left = statement
        self.reached = False

    def _count(self, statement: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached = True
            raise OperationalError(statement, None, OSError("disk I/O error"))


async def test_no_failing_statement_loses_or_doubles_a_call(store: Store) -> None:
    await Limits(store).set(Limit(LimitScope.KEY, "k", LimitKind.TOKENS, 10**9, BudgetPeriod.TOTAL))
    ledger = Ledger(store)
    fault = FailAt(store)
    statement, fault.reached = 0, True
    while fault.reached:
        statement += 1
        meter = Meter(ledger, clock=time.monotonic, now=lambda: NOON, log=structlog.get_logger())
        ids = [f"{statement}-{number}" for number in range(4)]
        fault.arm(statement)
        ends = await asyncio.gather(*(serve(meter, request_id) for request_id in ids))
        reached = fault.reached
        fault.arm(0)
        fault.reached = reached
        await meter.retry_pending()
        await check(store, ledger, dict(zip(ids, ends, strict=True)))
    assert statement > 20  # for reserving and settling: begin, read, budgets, lines, sums, head, commit


async def serve(meter: Meter, request_id: str) -> str:
    """One call; what its client was told: refused, failed or whole."""
    call = Call(request_id, Caller(1, "k"), "m", TextPrompt("hi"))
    begun = False
    try:
        async with meter.measure(call, "m", 8, 100) as tally:
            begun = True
            tally.note(Delta("a", 1, "stop"))
            await tally.settle(EndReason.STOP)
    except LedgerUnavailable:
        return "failed" if begun else "refused"
    return "whole"


async def check(store: Store, ledger: Ledger, ends: dict[str, str]) -> None:
    """Each call that was begun has one receipt, which tells what its client was told; a refused one has no line."""
    receipts = {receipt.request_id: receipt for receipt in await collected(ledger.receipts())}
    query = text("SELECT request_id FROM reservations")
    reserved = await store.read(lambda connection: set(connection.scalars(query)))
    for request_id, end in ends.items():
        if end == "refused":
            assert request_id not in reserved
        else:
            expected = EndReason.STOP if end == "whole" else EndReason.ERROR
            assert (receipts[request_id].end_reason, receipts[request_id].output_tokens) == (expected, 1)
    assert set(receipts) == reserved
    assert (await verify(store)).fault is None
    for _, used in await Limits(store, now=lambda: NOON).standings():
        assert [standing.balance for standing in used] == [Balance(9 * len(receipts), 0)] or not receipts
