"""The pipeline: what a Stream hands out, and how each way of ending is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import structlog

from dashbelle.admission.queue import WaitingLine
from dashbelle.engine.catalog import Catalog, Served
from dashbelle.engine.echo import EchoEngine
from dashbelle.errors import (
    DrainedAway,
    EngineDied,
    InputTooLong,
    InternalError,
    InvalidApiKey,
    ModelNotFound,
    QueueFull,
    RequestTimedOut,
    ServerDraining,
)
from dashbelle.metering.ledger import Reservation, Settlement
from dashbelle.metering.meter import Meter
from dashbelle.models.templates import BelleTemplate
from dashbelle.pipeline import Pipeline
from dashbelle.vocabulary import (
    AdmittedPrompt,
    Call,
    Caller,
    ChatPrompt,
    Defaults,
    Delta,
    EndReason,
    Message,
    Prompt,
    Sampling,
    Stops,
    TextPrompt,
    Usage,
)

CALLER = Caller(1, "tester")
DEFAULTS = Defaults(temperature=1.0, top_p=1.0, top_k=0, repetition_penalty=1.0, max_tokens=100)


class ListLedger:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.reservations: list[Reservation] = []
        self.settlements: list[Settlement] = []

    async def reserve(self, reservation: Reservation) -> None:
        self.reservations.append(reservation)

    async def settle(self, settlement: Settlement) -> bool:
        self.settlements.append(settlement)
        return True


class OneKey:
    """Knows one key."""

    async def identify(self, secret: str | None) -> Caller:
        if secret != "sk-right":
            raise InvalidApiKey
        return CALLER


class SilentEngine(EchoEngine):
    """Says nothing, for ever; knows whether it was left."""

    left = 0

    async def generate(self, prompt: AdmittedPrompt) -> AsyncGenerator[Delta, None]:
        try:
            await asyncio.Event().wait()
            yield Delta("", 0)
        finally:
            self.left += 1


class FailingEngine(EchoEngine):
    """Fails after its first word."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def generate(self, prompt: AdmittedPrompt) -> AsyncGenerator[Delta, None]:
        yield Delta("one", 3)
        raise self._error


class House:
    """A pipeline over one engine, and what it wrote down."""

    def __init__(self, engine: EchoEngine, *, slots: int = 2, places: int = 4, timeout_s: float = 60.0) -> None:
        self.ledger = ListLedger()
        self.line = WaitingLine(slots, places)
        served = Served("echo", engine, BelleTemplate(stops=Stops()), DEFAULTS)
        self.catalog = Catalog({"echo": served}, {"belle": "echo"})
        ticks = iter(range(10**6))
        meter = Meter(
            self.ledger,
            clock=lambda: float(next(ticks)),
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            log=structlog.get_logger(),
        )
        self.pipeline = Pipeline(OneKey(), self.catalog, {"echo": self.line}, meter, timeout_s=timeout_s)

    async def ask(self, text: str = "hello", sampling: Sampling = Sampling(), model: str = "echo") -> list[Delta]:  # noqa: B008 - frozen
        async with self.pipeline.open(a_call(text, sampling, model)) as stream:
            return [delta async for delta in stream]

    @property
    def ends(self) -> list[tuple[EndReason, int, int]]:
        return [(row.end_reason, row.input_tokens, row.output_tokens) for row in self.ledger.settlements]


def a_call(text: str = "hello", sampling: Sampling = Sampling(), model: str = "echo") -> Call:  # noqa: B008 - frozen
    return Call("id-1", CALLER, model, TextPrompt(text), sampling)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_call_comes_out_as_its_text_and_one_row() -> None:
    house = House(EchoEngine())
    deltas = await house.ask("你好")
    assert "".join(delta.text for delta in deltas) == "你好"
    assert [delta.finish for delta in deltas if delta.finish] == ["stop"]
    assert house.ends == [(EndReason.STOP, 6, 6)]
    assert len(house.ledger.reservations) == 1
    assert house.line.busy == 0


async def test_the_row_is_settled_before_the_last_delta_is_handed_out() -> None:
    house = House(EchoEngine())
    async with house.pipeline.open(a_call("ab")) as stream:
        async for delta in stream:
            assert bool(house.ledger.settlements) == (delta.finish is not None)


async def test_a_limit_is_told_from_a_stop() -> None:
    house = House(EchoEngine())
    deltas = await house.ask("hello", Sampling(max_tokens=2))
    assert deltas[-1].finish == "length"
    assert house.ends == [(EndReason.LENGTH, 5, 2)]


async def test_n_choices_each_come_whole_and_are_counted_together() -> None:
    house = House(EchoEngine(), slots=3)
    async with house.pipeline.open(a_call("abc", Sampling(n=3))) as stream:
        assert house.line.busy == 3
        deltas = [delta async for delta in stream]
        assert [stream.usage_of(index) for index in range(3)] == [Usage(3, 3)] * 3
        assert stream.usage == Usage(3, 9)
    for index in range(3):
        mine = [delta for delta in deltas if delta.index == index]
        assert "".join(delta.text for delta in mine) == "abc"
        assert [delta.finish for delta in mine if delta.finish] == ["stop"]
    assert house.ends == [(EndReason.STOP, 3, 9)]


async def test_a_slow_reader_gets_merged_text_and_all_of_it() -> None:
    house = House(EchoEngine())
    async with house.pipeline.open(a_call("abcdefgh")) as stream:
        first = await anext(stream)
        for _ in range(50):
            await asyncio.sleep(0)
        rest = [delta async for delta in stream]
    assert len(rest) == 1
    assert first.text + rest[0].text == "abcdefgh"
    assert house.ends == [(EndReason.STOP, 8, 8)]


async def test_no_delta_is_empty_but_a_last_one() -> None:
    deltas = await House(EchoEngine()).ask("😀好a")
    assert all(delta.text or delta.finish for delta in deltas)


async def test_a_cancelled_caller_frees_slot_and_engine_and_is_settled() -> None:
    engine = SilentEngine()
    house = House(engine)
    task = asyncio.create_task(house.ask())
    await until(lambda: bool(house.pipeline._running))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.ends == [(EndReason.CLIENT_GONE, 5, 0)]
    assert (house.line.busy, engine.left) == (0, 1)


async def test_leaving_the_block_early_is_settled_with_what_was_handed_out() -> None:
    house = House(EchoEngine(token_s=0.001))
    async with house.pipeline.open(a_call("abcdef")) as stream:
        await anext(stream)
    assert house.ends == [(EndReason.CLIENT_GONE, 6, 1)]


async def test_a_call_over_its_time_is_ended_and_says_so() -> None:
    house = House(SilentEngine(), timeout_s=0.01)
    with pytest.raises(RequestTimedOut):
        await house.ask()
    assert house.ends == [(EndReason.TIMEOUT, 5, 0)]
    assert house.line.busy == 0


async def test_a_call_that_waits_over_its_time_is_ended_too() -> None:
    house = House(SilentEngine(), slots=1, timeout_s=0.05)
    running = asyncio.create_task(house.ask())
    await until(lambda: house.line.busy == 1)
    waiting = asyncio.create_task(house.ask())
    for task in (running, waiting):
        with pytest.raises(RequestTimedOut):
            await task
    assert [reason for reason, *_ in house.ends] == [EndReason.TIMEOUT] * 2


async def test_an_engines_failure_ends_the_call_after_what_it_had_said() -> None:
    house = House(FailingEngine(EngineDied()))
    said: list[str] = []

    async def listen() -> None:
        async with house.pipeline.open(a_call()) as stream:
            async for delta in stream:
                said.append(delta.text)  # noqa: PERF401 - what was said before the error must be kept

    with pytest.raises(EngineDied):
        await listen()
    assert said == ["one"]
    assert house.ends == [(EndReason.ERROR, 5, 3)]


async def test_a_bug_in_an_engine_is_an_internal_error_with_its_cause() -> None:
    house = House(FailingEngine(KeyError("bug")))
    with pytest.raises(InternalError) as error:
        await house.ask()
    assert isinstance(error.value.__cause__, KeyError)
    assert [reason for reason, *_ in house.ends] == [EndReason.ERROR]


async def test_refusals_leave_no_row() -> None:
    house = House(EchoEngine(context_tokens=10))
    with pytest.raises(ModelNotFound):
        await house.ask(model="nobody")
    with pytest.raises(InputTooLong):
        await house.ask("x" * 10)
    assert house.ledger.reservations == []


async def test_a_full_line_refuses_without_a_row() -> None:
    house = House(SilentEngine(), slots=1, places=0)
    running = asyncio.create_task(house.ask())
    await until(lambda: bool(house.pipeline._running))
    with pytest.raises(QueueFull):
        await house.ask()
    assert len(house.ledger.reservations) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_stand_in_answers_under_its_own_name() -> None:
    house = House(EchoEngine())
    async with house.pipeline.open(a_call(model="belle")) as stream:
        assert stream.served_by == "echo"
    reservation = house.ledger.reservations[0]
    assert (reservation.model, reservation.served_model) == ("belle", "echo")


async def test_a_drain_lets_running_calls_end_and_refuses_the_rest() -> None:
    house = House(EchoEngine(token_s=0.001), slots=1)
    running = asyncio.create_task(house.ask("abcdef"))
    await until(lambda: house.line.busy == 1)
    waiting = asyncio.create_task(house.ask())
    await until(lambda: house.line.waiting == 1)
    await house.pipeline.drain(5)
    assert "".join(delta.text for delta in await running) == "abcdef"
    with pytest.raises(ServerDraining):
        await waiting
    with pytest.raises(ServerDraining):
        await house.ask()
    assert sorted(reason for reason, *_ in house.ends) == [EndReason.DRAIN, EndReason.STOP]


async def test_a_drain_ends_what_does_not_end_by_itself() -> None:
    house = House(SilentEngine())
    running = asyncio.create_task(house.ask())
    await until(lambda: house.line.busy == 1)
    await house.pipeline.drain(0.01)
    with pytest.raises(DrainedAway):
        await running
    assert house.ends == [(EndReason.DRAIN, 5, 0)]


async def test_only_the_right_key_is_a_caller() -> None:
    house = House(EchoEngine())
    assert await house.pipeline.identify("sk-right") == CALLER
    with pytest.raises(InvalidApiKey):
        await house.pipeline.identify(None)


async def test_long_prompts_are_tokenized_beside_the_loop() -> None:
    house = House(EchoEngine())
    deltas = await house.ask("x" * 20_000, Sampling(max_tokens=1))
    assert deltas[-1].finish == "length"
    assert house.ends == [(EndReason.LENGTH, 20_000, 1)]


@pytest.mark.parametrize(
    "prompt",
    [
        TextPrompt("Human:你好\n\nAssistant:"),
        ChatPrompt((Message("system", "Be brief."), Message("user", "Hi 😀"))),
        TextPrompt("x" * 20_000),
    ],
)
async def test_a_tokenized_prompt_has_the_tokens_that_a_call_is_billed_for(prompt: Prompt) -> None:
    house = House(EchoEngine())
    call = replace(a_call(), prompt=prompt)
    tokens = await house.pipeline.tokenize(call)
    async with house.pipeline.open(call) as stream:
        assert len(tokens.token_ids) == stream.usage.input_tokens
    assert b"".join(tokens.spellings).decode() == BelleTemplate().render(prompt)


async def test_tokenizing_leaves_no_row_and_takes_no_slot() -> None:
    house = House(SilentEngine(), slots=1, places=0)
    running = asyncio.create_task(house.ask())
    await until(lambda: bool(house.pipeline._running))
    tokens = await house.pipeline.tokenize(a_call("abc", model="belle"))
    assert (tokens.served_by, tokens.token_ids) == ("echo", (97, 98, 99))
    assert len(house.ledger.reservations) == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_text_that_cannot_fit_is_not_tokenized() -> None:
    house = House(EchoEngine(context_tokens=10))
    assert len((await house.pipeline.tokenize(a_call("x" * 9))).token_ids) == 9
    with pytest.raises(InputTooLong):
        await house.pipeline.tokenize(a_call("x" * 10))
    with pytest.raises(ModelNotFound):
        await house.pipeline.tokenize(a_call(model="nobody"))
