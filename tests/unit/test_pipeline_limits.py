"""Limits in the life of a call: reserved before the row, put right exactly once, whatever the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import structlog
from test_pipeline import CALLER, DEFAULTS, FailingEngine, ListLedger, OneKey, SilentEngine, a_call, until

from dashbelle.admission.limits import Limiter, Limits, LimitTable
from dashbelle.admission.queue import WaitingLine
from dashbelle.admission.schedule import Visit
from dashbelle.engine.catalog import Catalog, Served
from dashbelle.engine.echo import EchoEngine
from dashbelle.errors import (
    ConcurrencyLimitReached,
    DashbelleError,
    EngineDied,
    LedgerUnavailable,
    ModelUnavailable,
    QueueFull,
    RequestLimitReached,
    RequestTimedOut,
    ServerDraining,
    TokenLimitReached,
)
from dashbelle.metering.ledger import Reservation, Settlement
from dashbelle.metering.meter import Meter
from dashbelle.models.templates import BelleTemplate
from dashbelle.pipeline import Pipeline
from dashbelle.store import StoreUnavailable
from dashbelle.vocabulary import Caller, Sampling, Stops


class BrokenLedger(ListLedger):
    """Raises `on_reserve`, or `on_settle` the first time."""

    def __init__(self, *, on_reserve: Exception | None = None, on_settle: Exception | None = None) -> None:
        super().__init__()
        self._on_reserve = on_reserve
        self._on_settle = on_settle

    async def reserve(self, reservation: Reservation) -> None:
        if self._on_reserve is not None:
            raise self._on_reserve
        await super().reserve(reservation)

    async def settle(self, settlement: Settlement) -> bool:
        if self._on_settle is not None:
            error, self._on_settle = self._on_settle, None
            raise error
        return await super().settle(settlement)


class GatedLedger(ListLedger):
    """Takes no reservation before its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def reserve(self, reservation: Reservation) -> None:
        await self.gate.wait()
        await super().reserve(reservation)


BUDGET_SPENT = TokenLimitReached("Key 'tester'", limit=100, used=100, retry_after_s=None)
"""A refusal of the ledger's own."""


class LimitedHouse:
    """A pipeline under limits, what they count, and what the ledger has."""

    def __init__(
        self,
        engine: EchoEngine,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        *,
        slots: int = 2,
        places: int = 4,
        timeout_s: float = 60.0,
        ledger: ListLedger | None = None,
    ) -> None:
        self.ledger = ledger or ListLedger()
        self.line = WaitingLine(slots, places)
        self.limiter = Limiter(LimitTable(key_default=limits))
        served = Served("echo", engine, BelleTemplate(stops=Stops()), DEFAULTS)
        catalog = Catalog({"echo": served}, {"belle": "echo"})
        self.meter = Meter(
            self.ledger,
            clock=lambda: 0.0,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            log=structlog.get_logger(),
        )
        self.pipeline = Pipeline(
            OneKey(), catalog, {"echo": self.line}, self.meter, timeout_s=timeout_s, limiter=self.limiter
        )

    async def ask(
        self,
        text: str = "hello",
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        model: str = "echo",
        caller: Caller = CALLER,
    ) -> str:
        async with self.pipeline.open(replace(a_call(text, sampling, model), caller=caller)) as stream:
            return "".join([delta.text async for delta in stream])

    def start(self, text: str = "hello", caller: Caller = CALLER) -> asyncio.Task[str]:
        return asyncio.create_task(self.ask(text, caller=caller))

    async def running(self, text: str = "hello") -> asyncio.Task[str]:
        task = self.start(text)
        await until(lambda: bool(self.pipeline._running))
        return task

    @property
    def counted(self) -> tuple[int, int, int]:
        """Calls and tokens of the last minute, and open calls, under the caller's key."""
        now = asyncio.get_running_loop().time()
        use = self.limiter._uses.get(("key", CALLER.key_id))
        return (use.requests.total(now), use.tokens.total(now), use.open_calls) if use else (0, 0, 0)

    @property
    def billed(self) -> int:
        return sum(row.input_tokens + row.output_tokens for row in self.ledger.settlements)


Ending = Callable[[], Awaitable[LimitedHouse]]


async def cut_short(task: asyncio.Task[str]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def failing(error: type[DashbelleError], house: LimitedHouse) -> LimitedHouse:
    with pytest.raises(error):
        await house.ask()
    return house


async def by_itself() -> LimitedHouse:
    house = LimitedHouse(EchoEngine())
    await house.ask("hello")
    return house


async def at_its_token_limit() -> LimitedHouse:
    house = LimitedHouse(EchoEngine())
    await house.ask("hello", Sampling(max_tokens=2))
    return house


async def with_three_choices() -> LimitedHouse:
    house = LimitedHouse(EchoEngine(), slots=3)
    await house.ask("abc", Sampling(n=3))
    return house


async def left_early() -> LimitedHouse:
    house = LimitedHouse(EchoEngine(token_s=0.001))
    async with house.pipeline.open(a_call("abcdef")) as stream:
        await anext(stream)
    return house


async def hung_up_on_while_running() -> LimitedHouse:
    house = LimitedHouse(SilentEngine())
    await cut_short(await house.running())
    return house


async def hung_up_on_while_waiting() -> LimitedHouse:
    house = LimitedHouse(SilentEngine(), slots=1)
    running = await house.running()
    waiting = house.start()
    await until(lambda: house.line.waiting == 1 and len(house.ledger.reservations) == 2)
    await cut_short(waiting)
    await cut_short(running)
    return house


async def hung_up_on_while_the_row_was_written() -> LimitedHouse:
    ledger = GatedLedger()
    house = LimitedHouse(SilentEngine(), ledger=ledger)
    task = house.start()
    await until(lambda: house.line.busy == 1)
    task.cancel()
    ledger.gate.set()
    await asyncio.gather(task, return_exceptions=True)
    return house


async def over_its_time_while_running() -> LimitedHouse:
    return await failing(RequestTimedOut, LimitedHouse(SilentEngine(), timeout_s=0.01))


async def over_its_time_while_waiting() -> LimitedHouse:
    house = LimitedHouse(SilentEngine(), slots=1, timeout_s=0.02)
    await asyncio.gather(house.start(), house.start(), return_exceptions=True)
    return house


async def with_an_engines_death() -> LimitedHouse:
    return await failing(EngineDied, LimitedHouse(FailingEngine(EngineDied())))


async def with_an_engine_that_cannot_start() -> LimitedHouse:
    return await failing(ModelUnavailable, LimitedHouse(FailingEngine(ModelUnavailable())))


async def with_a_bug_in_the_engine() -> LimitedHouse:
    house = LimitedHouse(FailingEngine(KeyError("bug")))
    await asyncio.gather(house.start(), return_exceptions=True)
    return house


async def in_a_drain() -> LimitedHouse:
    house = LimitedHouse(SilentEngine(), slots=1)
    tasks = [await house.running(), house.start()]
    await until(lambda: house.line.waiting == 1 and len(house.ledger.reservations) == 2)
    await house.pipeline.drain(0.01)
    await asyncio.gather(*tasks, return_exceptions=True)
    return house


async def with_a_ledger_that_cannot_settle() -> LimitedHouse:
    house = LimitedHouse(EchoEngine(), ledger=BrokenLedger(on_settle=StoreUnavailable("disk full")))
    return await failing(LedgerUnavailable, house)


@pytest.mark.parametrize(
    ("ending", "calls", "tokens"),
    [
        (by_itself, 1, 10),
        (at_its_token_limit, 1, 7),
        (with_three_choices, 1, 12),
        (left_early, 1, 7),
        (hung_up_on_while_running, 1, 5),
        (hung_up_on_while_waiting, 2, 5),
        (hung_up_on_while_the_row_was_written, 1, 0),
        (over_its_time_while_running, 1, 5),
        (over_its_time_while_waiting, 2, 5),
        (with_an_engines_death, 1, 8),
        (with_an_engine_that_cannot_start, 1, 8),
        (with_a_bug_in_the_engine, 1, 8),
        (in_a_drain, 1, 5),  # the one that waited was refused, and counts for nothing
        (with_a_ledger_that_cannot_settle, 1, 10),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_however_a_call_ends_the_limits_count_what_the_ledger_bills(
    ending: Ending, calls: int, tokens: int
) -> None:
    house = await ending()
    assert house.counted == (calls, tokens, 0)
    assert house.billed == tokens
    assert (house.line.busy, house.line.waiting) == (0, 0)


async def test_while_a_call_runs_its_worst_case_is_reserved() -> None:
    house = LimitedHouse(SilentEngine())
    task = await house.running("hello")
    assert house.counted == (1, 5 + DEFAULTS.max_tokens, 1)
    await cut_short(task)


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (Limits(requests_per_minute=1), RequestLimitReached),
        (Limits(tokens_per_minute=150), TokenLimitReached),
        (Limits(concurrent_calls=1), ConcurrencyLimitReached),
    ],
)
@pytest.mark.item(78)
async def test_a_call_over_a_limit_leaves_no_row_and_takes_no_room(limits: Limits, error: type[DashbelleError]) -> None:
    house = LimitedHouse(SilentEngine(), limits, slots=2)
    task = await house.running()
    with pytest.raises(error) as refusal:
        await house.ask()
    assert refusal.value.retry_after_s is not None
    assert (len(house.ledger.reservations), house.line.busy, house.line.waiting) == (1, 1, 0)
    await cut_short(task)


async def test_many_at_once_cannot_pass_a_limit_between_check_and_charge() -> None:
    house = LimitedHouse(EchoEngine(), Limits(tokens_per_minute=315), slots=16, places=100)
    outcomes = await asyncio.gather(*(house.ask() for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, TokenLimitReached) for outcome in outcomes) == 17
    assert house.billed == 30
    await house.ask()


async def test_a_full_line_counts_for_nothing() -> None:
    house = LimitedHouse(SilentEngine(), slots=1, places=0)
    task = await house.running()
    before = house.counted
    with pytest.raises(QueueFull):
        await house.ask()
    assert house.counted == before
    await cut_short(task)


@pytest.mark.parametrize(
    ("trouble", "error"), [(StoreUnavailable("disk full"), LedgerUnavailable), (BUDGET_SPENT, TokenLimitReached)]
)
async def test_what_the_ledger_refuses_counts_for_nothing(trouble: Exception, error: type[DashbelleError]) -> None:
    house = LimitedHouse(EchoEngine(), ledger=BrokenLedger(on_reserve=trouble))
    await failing(error, house)
    assert house.counted == (0, 0, 0)
    assert house.line.busy == 0


async def test_a_drained_server_counts_for_nothing() -> None:
    house = LimitedHouse(EchoEngine())
    await house.pipeline.drain(0)
    await failing(ServerDraining, house)
    assert house.counted == (0, 0, 0)


async def test_a_stand_ins_calls_count_under_both_names() -> None:
    house = LimitedHouse(EchoEngine())
    house.limiter.table = LimitTable(
        models={"belle": Limits(requests_per_minute=1), "echo": Limits(concurrent_calls=9)}
    )
    await house.ask(model="belle")
    await house.ask(model="echo")
    with pytest.raises(RequestLimitReached, match="Model 'belle'"):
        await house.ask(model="belle")
    assert house.limiter._uses["model", "echo"].requests.total(0.0) == 2


async def test_the_line_is_fair_between_callers_and_knows_their_shares() -> None:
    house = LimitedHouse(EchoEngine(), slots=1, places=100)
    house.limiter.table = LimitTable(shares={CALLER.key_id: 2.0})
    order: list[str] = []
    crowd = [house.start("abc") for _ in range(20)]
    await until(lambda: house.line.waiting == 19)
    newcomer = house.start("abc", Caller(2, "newcomer"))
    for name, task in (*((f"crowd {number}", task) for number, task in enumerate(crowd)), ("newcomer", newcomer)):
        task.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
    await until(lambda: house.line.waiting == 20)
    assert {visit.share for visit in visits(house.line)} == {1.0, 2.0}
    await asyncio.gather(*crowd, newcomer)
    assert order.index("newcomer") <= 2


def visits(line: WaitingLine) -> list[Visit]:
    """What waits wants."""
    return [waiting.visit for account in line._schedule._accounts.values() for waiting in account.waiting.values()]


async def test_the_line_learns_what_calls_really_take() -> None:
    house = LimitedHouse(EchoEngine())
    await house.ask("hello", Sampling(max_tokens=100))
    assert house.line._schedule._output_mean == len("hello")
