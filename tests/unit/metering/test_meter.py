"""The meter: exactly one settlement with the true counts, however a call ends."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from books import NOON, Clock, MemoryBook, Told, measure, metered

from dashbelle.errors import (
    DrainedAway,
    EngineDied,
    EngineFailed,
    RequestTimedOut,
    ServerDraining,
)
from dashbelle.metering.ledger import Reservation, Settlement
from dashbelle.metering.meter import Meter
from dashbelle.vocabulary import Delta, EndReason, Usage


async def test_the_reservation_is_written_before_the_block_begins(meter: Meter, book: MemoryBook) -> None:
    async with measure(meter):
        assert book.reserved == [Reservation("r", 7, "ci", "ws", "belle", "smol", 8, 100, NOON)]
        assert book.settled == []


async def test_a_call_that_ends_well_is_settled_with_its_counts_and_times(
    meter: Meter, book: MemoryBook, clock: Clock
) -> None:
    async with measure(meter) as tally:
        clock.seconds = 2
        tally.started()
        clock.seconds = 3
        tally.note(Delta("", 0))
        clock.seconds = 5
        tally.note(Delta("he", 1))
        clock.seconds = 6
        tally.note(Delta("llo", 2, "stop"))
        await tally.settle(EndReason.STOP)
        expected = Settlement("r", 8, 3, EndReason.STOP, 2.0, 5.0, NOON + timedelta(seconds=6))
        assert book.settled == [expected]
        clock.seconds = 9
    assert book.settled == [expected]


async def test_usage_is_counted_per_choice_and_in_all(meter: Meter) -> None:
    async with measure(meter) as tally:
        assert tally.usage == Usage(8, 0)
        tally.note(Delta("a", 1, index=0))
        tally.note(Delta("b", 2, index=1))
        tally.note(Delta("c", 3, index=0))
        assert tally.usage == Usage(8, 6)
        assert (tally.usage_of(0), tally.usage_of(1), tally.usage_of(2)) == (Usage(8, 4), Usage(8, 2), Usage(8, 0))


async def test_settling_again_changes_nothing(meter: Meter, book: MemoryBook) -> None:
    async with measure(meter) as tally:
        tally.note(Delta("a", 1))
        await tally.settle(EndReason.STOP)
        tally.note(Delta("b", 1))
        await tally.settle(EndReason.LENGTH)
    assert [(line.end_reason, line.output_tokens) for line in book.settled] == [(EndReason.STOP, 1)]


async def test_a_block_left_before_the_end_means_the_client_has_gone(meter: Meter, book: MemoryBook) -> None:
    async with measure(meter) as tally:
        tally.note(Delta("a", 1))
    assert [(line.end_reason, line.output_tokens) for line in book.settled] == [(EndReason.CLIENT_GONE, 1)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RequestTimedOut(), EndReason.TIMEOUT),
        (DrainedAway(), EndReason.DRAIN),
        (ServerDraining(), EndReason.DRAIN),
        (EngineFailed(), EndReason.ERROR),
        (EngineDied(), EndReason.ERROR),
        (LookupError("a bug"), EndReason.ERROR),
        (asyncio.CancelledError(), EndReason.CLIENT_GONE),
    ],
    ids=repr,
)
async def test_an_error_passes_and_says_how_the_call_ended(
    meter: Meter, book: MemoryBook, error: BaseException, reason: EndReason
) -> None:
    async def run() -> None:
        async with measure(meter) as tally:
            tally.note(Delta("a", 1))
            raise error

    with pytest.raises(type(error)) as caught:
        await run()
    assert caught.value is error
    assert [(line.end_reason, line.input_tokens, line.output_tokens) for line in book.settled] == [(reason, 8, 1)]


async def test_a_call_that_never_left_the_waiting_line_pays_nothing(
    meter: Meter, book: MemoryBook, clock: Clock
) -> None:
    async with measure(meter):
        clock.seconds = 4
    assert book.settled == [
        Settlement("r", 0, 0, EndReason.CLIENT_GONE, 4.0, None, NOON + timedelta(seconds=4)),
    ]


async def test_a_call_that_started_pays_its_input(meter: Meter, book: MemoryBook) -> None:
    async with measure(meter) as tally:
        tally.started()
    assert [(line.input_tokens, line.output_tokens) for line in book.settled] == [(8, 0)]


async def test_a_call_never_ends_before_it_starts_though_the_time_of_day_is_set_back(book: MemoryBook) -> None:
    clock = Clock()
    async with measure(metered(book, clock)) as tally:
        clock.seconds = -3600
        await tally.settle(EndReason.STOP)
    assert book.settled[0].ended_at == book.reserved[0].started_at


async def test_each_settlement_is_told_once(meter: Meter, told: Told) -> None:
    async with measure(meter, "a") as tally:
        await tally.settle(EndReason.LENGTH)
        await tally.settle(EndReason.LENGTH)
    async with measure(meter, "b"):
        pass
    assert told.lines == [("smol", EndReason.LENGTH), ("smol", EndReason.CLIENT_GONE)]
