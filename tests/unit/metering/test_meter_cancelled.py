"""The meter and callers who leave: a settlement outlasts any cancellation, and swallows none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from books import MemoryBook, SlowBook, Told, measure, metered, turn

from dashbelle.errors import DashbelleError, EngineFailed
from dashbelle.metering.meter import Meter
from dashbelle.vocabulary import Delta, EndReason


async def test_a_generator_closed_in_the_middle_is_settled_before_aclose_returns(
    meter: Meter, book: MemoryBook
) -> None:
    async def deltas() -> AsyncIterator[Delta]:
        async with measure(meter) as tally:
            delta = Delta("a", 1)
            tally.note(delta)
            yield delta

    stream = deltas()
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined] # an async generator, by its yield
    assert [line.end_reason for line in book.settled] == [EndReason.CLIENT_GONE]


async def test_cancelling_twice_neither_loses_nor_hurries_the_settlement() -> None:
    book = SlowBook("settle")
    running = asyncio.Event()

    async def run() -> None:
        async with measure(metered(book)) as tally:
            tally.note(Delta("a", 1))
            running.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await running.wait()
    task.cancel()
    await book.asked.wait()
    for _ in range(3):
        task.cancel()
        await turn()
        assert not task.done()
    book.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line.end_reason for line in book.settled] == [EndReason.CLIENT_GONE]


@pytest.mark.parametrize("error", [None, EngineFailed()], ids=repr)
async def test_a_cancellation_while_another_end_is_settled_is_not_swallowed(error: DashbelleError | None) -> None:
    book = SlowBook("settle")

    async def run() -> None:
        async with measure(metered(book)):
            if error is not None:
                raise error

    task = asyncio.create_task(run())
    await book.asked.wait()
    task.cancel()
    await turn()
    assert not task.done()
    book.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(book.settled) == 1


async def test_a_cancellation_while_the_end_is_settled_leaves_that_end() -> None:
    book = SlowBook("settle")
    told = Told()

    async def run() -> None:
        async with measure(metered(book, told=told)) as tally:
            tally.note(Delta("a", 1))
            await tally.settle(EndReason.STOP)

    task = asyncio.create_task(run())
    await book.asked.wait()
    task.cancel()
    await turn()
    book.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line.end_reason for line in book.settled] == [EndReason.STOP]
    assert told.lines == [("smol", EndReason.STOP)]


async def test_a_cancellation_while_reserving_leaves_nothing_open() -> None:
    book = SlowBook("reserve")

    async def run() -> None:
        async with measure(metered(book)):
            raise LookupError("must not run")

    task = asyncio.create_task(run())
    await book.asked.wait()
    task.cancel()
    await turn()
    assert not task.done()
    book.answer.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line.request_id for line in book.reserved] == ["r"]
    assert [(line.end_reason, line.input_tokens) for line in book.settled] == [(EndReason.CLIENT_GONE, 0)]
