"""The ledger: one reservation, one settlement, and sums that equal the receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from dashbelle.metering.ledger import By, Ledger, Reservation, Settlement, Sum, UnknownCall
from dashbelle.store import Store
from dashbelle.vocabulary import EndReason, Receipt

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def reservation(request_id: str, *, key: str = "k", model: str = "m", served: str = "m") -> Reservation:
    return Reservation(request_id, 1, key, "ws", model, served, 8, 100, NOON)


def settlement(request_id: str, ended_at: datetime = NOON, *, tokens: tuple[int, int] = (8, 3)) -> Settlement:
    return Settlement(request_id, *tokens, EndReason.STOP, 0.25, 0.5, ended_at)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dashbelle.db"


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with Store.open(url) as store:
        yield store


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


async def settled(ledger: Ledger, request_id: str, ended_at: datetime, **names: str) -> None:
    await ledger.reserve(reservation(request_id, **names))
    await ledger.settle(settlement(request_id, ended_at))


async def ids(receipts: AsyncIterator[Receipt]) -> list[str]:
    return [receipt.request_id async for receipt in receipts]


async def test_a_settled_call_has_a_receipt_with_all_that_is_known(ledger: Ledger) -> None:
    await ledger.reserve(reservation("r", key="ci", model="belle", served="smol"))
    ended_at = NOON + timedelta(seconds=1.234567)
    assert await ledger.settle(settlement("r", ended_at))
    receipts = [receipt async for receipt in ledger.receipts()]
    assert receipts == [Receipt("r", "ci", "belle", "smol", 8, 3, EndReason.STOP, NOON, ended_at)]
    assert receipts[0].end_reason is EndReason.STOP


async def test_the_lines_hold_every_field(ledger: Ledger, store: Store) -> None:
    await settled(ledger, "r", NOON)
    query = text("SELECT r.*, s.queue_s, s.first_token_s FROM reservations r JOIN settlements s USING (request_id)")
    row = await store.read(lambda connection: dict(connection.execute(query).mappings().one()))
    assert len(row.pop("hash")) == 32
    assert row == {
        "position": 1,
        "request_id": "r",
        "key_id": 1,
        "key_name": "k",
        "workspace": "ws",
        "model": "m",
        "served_model": "m",
        "input_tokens": 8,
        "max_output_tokens": 100,
        "started_at": "2026-01-31 12:00:00.000000",
        "queue_s": 0.25,
        "first_token_s": 0.5,
    }


async def test_the_first_settlement_stands(ledger: Ledger) -> None:
    await ledger.reserve(reservation("r"))
    assert await ledger.settle(settlement("r", tokens=(8, 3)))
    assert not await ledger.settle(settlement("r", tokens=(8, 99)))
    assert [receipt.output_tokens async for receipt in ledger.receipts()] == [3]


async def test_a_reservation_alone_is_no_receipt(ledger: Ledger) -> None:
    await ledger.reserve(reservation("r"))
    assert await ids(ledger.receipts()) == []
    assert await ledger.newest(10) == []
    assert await ledger.sums(By.DAY) == []


async def test_a_request_id_is_reserved_once_and_settled_only_if_reserved(ledger: Ledger) -> None:
    await ledger.reserve(reservation("r"))
    with pytest.raises(IntegrityError):
        await ledger.reserve(reservation("r"))
    with pytest.raises(UnknownCall, match="stranger"):
        await ledger.settle(settlement("stranger"))


async def test_what_a_dead_process_left_is_settled_as_crashed_once(ledger: Ledger, url: str) -> None:
    async with Store.open(url) as dead:
        await settled(Ledger(dead), "whole", NOON)
        for request_id in ("left-1", "left-2"):
            await Ledger(dead).reserve(reservation(request_id))
    await ledger.reserve(reservation("mine"))
    later = NOON + timedelta(hours=1)
    assert await ledger.settle_crashed(later) == 2
    assert await ledger.settle_crashed(later) == 0
    whole, *crashed = [receipt async for receipt in ledger.receipts()]
    assert whole.end_reason is EndReason.STOP
    for receipt in crashed:
        assert (receipt.input_tokens, receipt.output_tokens) == (0, 0)
        assert (receipt.end_reason, receipt.ended_at) == (EndReason.CRASHED, later)


async def test_more_dead_calls_than_a_chunk_are_all_settled(url: str, store: Store) -> None:
    async with Store.open(url) as dead:
        for number in range(25):
            await Ledger(dead).reserve(reservation(f"r{number:02}"))
    assert await Ledger(store, chunk=10).settle_crashed(NOON) == 25


async def test_a_receipt_is_for_the_calls_own_key_and_for_settled_calls_alone(ledger: Ledger) -> None:
    await settled(ledger, "r", NOON)
    await ledger.reserve(reservation("open"))
    found = await ledger.receipt("r", 1)
    assert found == Receipt("r", "k", "m", "m", 8, 3, EndReason.STOP, NOON, NOON)
    assert await ledger.receipt("r", 2) is None
    assert await ledger.receipt("open", 1) is None
    assert await ledger.receipt("stranger", 1) is None


@pytest.mark.parametrize("total", [0, 9, 10, 11, 20, 25])
async def test_receipts_come_oldest_end_first_across_chunks(store: Store, total: int) -> None:
    ledger = Ledger(store, chunk=10)
    for number in reversed(range(total)):  # every four share a moment, so that a chunk's edge falls within one
        await settled(ledger, f"r{number:02}", NOON + timedelta(seconds=number // 4))
    expected = [f"r{number:02}" for number in range(total)]
    assert await ids(ledger.receipts()) == expected
    assert [receipt.request_id for receipt in await ledger.newest(3)] == expected[::-1][:3]


async def test_a_period_begins_with_since_and_ends_before_until(ledger: Ledger) -> None:
    for number in range(4):
        await settled(ledger, f"r{number}", NOON + timedelta(hours=number))
    one, three = NOON + timedelta(hours=1), NOON + timedelta(hours=3)
    assert await ids(ledger.receipts(one, three)) == ["r1", "r2"]
    assert await ids(ledger.receipts(since=one)) == ["r1", "r2", "r3"]
    assert await ids(ledger.receipts(until=one)) == ["r0"]
    assert [receipt.request_id for receipt in await ledger.newest(1, until=three)] == ["r2"]
    assert [one_sum.calls for one_sum in await ledger.sums(By.KEY, one, three)] == [2]


async def test_sums_by_day_use_utc_days(ledger: Ledger) -> None:
    await settled(ledger, "a", datetime(2026, 1, 31, 23, 59, 59, 999999, UTC))
    await settled(ledger, "b", datetime(2026, 2, 1, tzinfo=UTC))
    await settled(ledger, "c", datetime(2026, 2, 1, 1, tzinfo=UTC))
    assert await ledger.sums(By.DAY) == [Sum("2026-01-31", 1, 8, 3), Sum("2026-02-01", 2, 16, 6)]


async def test_sums_by_key_equal_the_receipts(ledger: Ledger) -> None:
    for number in range(7):
        await settled(ledger, f"r{number}", NOON, key=f"key-{number % 2}")
    assert await ledger.sums(By.KEY) == [Sum("key-0", 4, 32, 12), Sum("key-1", 3, 24, 9)]


async def test_sums_by_model_tell_a_stand_in_from_the_model(ledger: Ledger) -> None:
    await settled(ledger, "a", NOON, model="belle", served="belle")
    await settled(ledger, "b", NOON, model="belle", served="smol")
    assert [one.group for one in await ledger.sums(By.MODEL)] == ["belle", "belle (served by smol)"]
