"""The meter and a ledger that cannot write: nothing runs unmetered, nothing is forgotten."""

from __future__ import annotations

import asyncio

import pytest
from books import BrokenBook, ShutBook, Told, measure, metered
from structlog.testing import LogCapture

from dashbelle.errors import LedgerUnavailable, RequestTimedOut
from dashbelle.store import StoreUnavailable
from dashbelle.vocabulary import Delta, EndReason


async def test_nothing_runs_unreserved(logged: LogCapture) -> None:
    book = ShutBook("reserve")
    with pytest.raises(LedgerUnavailable):
        async with measure(metered(book, logged=logged)):
            raise LookupError("must not run")
    assert book.settled == []
    assert logged.entries == [
        {"event": "reservation_failed", "log_level": "error", "request_id": "r", "reason": "disk full"}
    ]


async def test_an_end_that_cannot_be_written_is_an_error_and_not_forgotten(told: Told) -> None:
    book = ShutBook("settle")
    meter = metered(book, told=told)

    async def run() -> None:
        async with measure(meter) as tally:
            tally.note(Delta("a", 1))
            await tally.settle(EndReason.STOP)

    with pytest.raises(LedgerUnavailable):
        await run()
    assert meter.pending == 1
    assert told.lines == []
    book.shut.clear()
    await meter.retry_pending()
    assert [(line.end_reason, line.output_tokens) for line in book.settled] == [(EndReason.ERROR, 1)]
    assert meter.pending == 0
    assert told.lines == [("smol", EndReason.ERROR)]


async def test_a_settlement_that_fails_does_not_replace_the_error(logged: LogCapture) -> None:
    book = ShutBook("settle")
    meter = metered(book, logged=logged)
    error = RequestTimedOut()
    with pytest.raises(RequestTimedOut) as caught:
        async with measure(meter):
            raise error
    assert caught.value is error
    assert [entry["event"] for entry in logged.entries] == ["settlement_delayed"]


async def test_a_bug_in_settling_does_not_replace_the_error_and_is_logged(logged: LogCapture) -> None:
    meter = metered(BrokenBook(), logged=logged)
    with pytest.raises(RequestTimedOut):
        async with measure(meter):
            raise RequestTimedOut
    assert [(entry["event"], repr(entry["exc_info"])) for entry in logged.entries] == [
        ("settlement_lost", "LookupError('r')")
    ]
    assert meter.pending == 0


async def test_what_waits_is_written_in_order_before_a_new_call_runs() -> None:
    book = ShutBook()
    meter = metered(book)
    async with measure(meter, "first"), measure(meter, "second"):
        book.shut = {"settle"}
    assert meter.pending == 2
    book.shut.clear()
    async with measure(meter, "third"):
        assert [line.request_id for line in book.settled] == ["second", "first"]
    assert [line.request_id for line in book.settled] == ["second", "first", "third"]


async def test_no_new_call_runs_while_a_settlement_waits() -> None:
    book = ShutBook()
    meter = metered(book)
    async with measure(meter, "first"):
        book.shut = {"settle"}
    with pytest.raises(LedgerUnavailable):
        async with measure(meter, "second"):
            raise LookupError("must not run")
    assert [line.request_id for line in book.reserved] == ["first"]
    assert meter.pending == 1


async def test_calls_that_arrive_together_share_one_retry() -> None:
    book = ShutBook()
    meter = metered(book)
    async with measure(meter, "first"):
        book.shut = {"settle"}
    book.refused = 0
    results = await asyncio.gather(*(meter.retry_pending() for _ in range(50)), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert book.refused == 1


async def test_what_waits_is_bounded_and_an_overflow_is_logged(logged: LogCapture) -> None:
    book = ShutBook()
    meter = metered(book, logged=logged, pending_limit=1)
    async with measure(meter, "first"), measure(meter, "second"):
        book.shut = {"settle"}
    assert meter.pending == 1
    assert [(entry["event"], entry["request_id"]) for entry in logged.entries] == [
        ("settlement_delayed", "second"),
        ("settlement_lost", "first"),
    ]
