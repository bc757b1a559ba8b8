"""Measures one call: reserved before it runs, settled exactly once however it ends; keeps no totals."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

from structlog.typing import FilteringBoundLogger

from dashbelle.errors import DashbelleError, LedgerUnavailable
from dashbelle.metering.ledger import Reservation, Settlement
from dashbelle.store import StoreUnavailable
from dashbelle.vocabulary import Call, Delta, EndReason, Usage

PENDING_LIMIT = 10_000
_Lines = tuple[Reservation, Settlement]


class Book(Protocol):
    """What a meter writes to; the Ledger is one. Both raise StoreUnavailable."""

    async def reserve(self, reservation: Reservation) -> None:
        """Durable once this returns. Raises BudgetUsedUp: then nothing was written."""
        ...

    async def settle(self, settlement: Settlement) -> bool:
        """Durable once this returns; the first settlement of a call stands."""
        ...


class Meter:
    """Measures calls. Settlements that the ledger could not take wait here, and nothing new runs before they are in.

    `on_settled` is told of each settlement once, after it was written. `clock` counts seconds, `now` is aware.
    """

    def __init__(
        self,
        ledger: Book,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        log: FilteringBoundLogger,
        on_settled: Callable[[Reservation, Settlement], None] = lambda _reservation, _settlement: None,
        pending_limit: int = PENDING_LIMIT,
    ) -> None:
        self._ledger = ledger
        self._on_settled = on_settled
        self._clock = clock
        self._now = now
        self._log = log
        self._pending: deque[_Lines] = deque()
        self._pending_limit = pending_limit
        self._retry: asyncio.Task[StoreUnavailable | None] | None = None

    def measure(self, call: Call, served_model: str, input_tokens: int, max_output_tokens: int) -> Tally:
        """`async with` this around all that the call does.

        Entering raises LedgerUnavailable and BudgetUsedUp: then nothing may run.
        """
        reservation = Reservation(
            request_id=call.request_id,
            key_id=call.caller.key_id,
            key_name=call.caller.key_name,
            workspace=call.workspace,
            model=call.model,
            served_model=served_model,
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            started_at=self._now(),
        )
        return Tally(self, reservation, clock=self._clock, now=self._now)

    @property
    def pending(self) -> int:
        """How many settlements wait for the ledger to come back."""
        return len(self._pending)

    async def retry_pending(self) -> None:
        """Write what waits, in order. Raises StoreUnavailable if something must wait on."""
        if not self._pending:
            return
        if self._retry is None or self._retry.done():  # callers that arrive together share one try
            self._retry = asyncio.create_task(self._write_pending())
        failure = await asyncio.shield(self._retry)
        if failure is not None:
            raise StoreUnavailable(str(failure))

    async def _write_pending(self) -> StoreUnavailable | None:
        while self._pending:
            reservation, settlement = self._pending[0]
            try:
                await self._write(reservation, settlement)
            except StoreUnavailable as failure:
                return failure
            self._pending.popleft()
            self._log.info("settlement_recovered", request_id=settlement.request_id)
        return None

    async def reserve(self, reservation: Reservation) -> None:
        """Write a call's reservation. Raises LedgerUnavailable, BudgetUsedUp."""
        try:
            await self.retry_pending()
            await self._ledger.reserve(reservation)
        except StoreUnavailable as error:
            self._log.error("reservation_failed", request_id=reservation.request_id, reason=str(error))
            raise LedgerUnavailable from None

    async def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """Write a call's normal end. Raises LedgerUnavailable."""
        try:
            await self._write(reservation, settlement)
        except StoreUnavailable as error:
            self._log.error("settlement_failed", request_id=settlement.request_id, reason=str(error))
            raise LedgerUnavailable from None

    async def settle_late(self, reservation: Reservation, settlement: Settlement) -> bool:
        """Write any other end, through cancellation; whether there was one. A failure is kept for later, not raised."""
        outcome = await _outlast(self._write(reservation, settlement))
        if isinstance(outcome.failure, StoreUnavailable | asyncio.CancelledError):
            self._keep(reservation, settlement, outcome.failure)
        elif outcome.failure is not None:
            self._log.error("settlement_lost", request_id=settlement.request_id, exc_info=outcome.failure)
        return outcome.cancelled

    async def _write(self, reservation: Reservation, settlement: Settlement) -> None:
        await self._ledger.settle(settlement)
        self._on_settled(reservation, settlement)

    def _keep(self, reservation: Reservation, settlement: Settlement, failure: BaseException) -> None:
        kept = len(self._pending) < self._pending_limit
        if kept:
            self._pending.append((reservation, settlement))
        event = "settlement_delayed" if kept else "settlement_lost"
        self._log.error(event, request_id=settlement.request_id, reason=str(failure), pending=len(self._pending))


class Tally:
    """The running count of one call; made by `Meter.measure`."""

    def __init__(
        self, meter: Meter, reservation: Reservation, *, clock: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._meter = meter
        self._reservation = reservation
        self._clock = clock
        self._now = now
        self._entered_s = clock()
        self._queue_s: float | None = None
        self._first_token_s: float | None = None
        self._output_tokens: dict[int, int] = {}
        self._settled = False

    def started(self) -> None:
        """The call has left the waiting line: from here on its input counts."""
        if self._queue_s is None:
            self._queue_s = self._elapsed_s()

    def note(self, delta: Delta) -> None:
        """Count a piece of an answer. Before it leaves: a caller who has it has been counted."""
        self.started()
        if self._first_token_s is None and delta.token_count > 0:
            self._first_token_s = self._elapsed_s()
        self._output_tokens[delta.index] = self._output_tokens.get(delta.index, 0) + delta.token_count

    @property
    def usage(self) -> Usage:
        """Of all choices so far."""
        return Usage(self._reservation.input_tokens, sum(self._output_tokens.values()))

    def usage_of(self, index: int) -> Usage:
        """Of one choice so far."""
        return Usage(self._reservation.input_tokens, self._output_tokens.get(index, 0))

    async def settle(self, reason: EndReason) -> None:
        """The normal end; await it before the last delta leaves. Raises LedgerUnavailable: then it must not leave."""
        if self._settled:
            return
        outcome = await _outlast(self._meter.settle(self._reservation, self._settlement(reason)))
        self._settled = outcome.failure is None
        if outcome.cancelled:
            raise asyncio.CancelledError
        if outcome.failure is not None:
            raise outcome.failure

    async def __aenter__(self) -> Self:
        outcome = await _outlast(self._meter.reserve(self._reservation))
        if outcome.cancelled:
            if outcome.failure is None:  # reserved, and nobody will come to __aexit__
                await self._settle_late(EndReason.CLIENT_GONE)
            raise asyncio.CancelledError
        if outcome.failure is not None:
            raise outcome.failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._settled:
            return
        cancelled = await self._settle_late(_reason(error))
        if cancelled and not isinstance(error, asyncio.CancelledError):
            raise asyncio.CancelledError

    async def _settle_late(self, reason: EndReason) -> bool:
        return await self._meter.settle_late(self._reservation, self._settlement(reason))

    def _settlement(self, reason: EndReason) -> Settlement:
        """As of now. A call that never left the waiting line has computed nothing, so its input is not counted."""
        waited = self._queue_s is None
        return Settlement(
            request_id=self._reservation.request_id,
            input_tokens=0 if waited else self._reservation.input_tokens,
            output_tokens=self.usage.output_tokens,
            end_reason=reason,
            queue_s=self._elapsed_s() if self._queue_s is None else self._queue_s,
            first_token_s=self._first_token_s,
            ended_at=max(self._now(), self._reservation.started_at),
        )

    def _elapsed_s(self) -> float:
        return self._clock() - self._entered_s


def _reason(error: BaseException | None) -> EndReason:
    """What an unsettled exit means. No error at all: the wire left before the end, as its client had."""
    if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
        return EndReason.CLIENT_GONE
    return error.end_reason if isinstance(error, DashbelleError) else EndReason.ERROR


@dataclass(frozen=True, slots=True)
class _Outcome:
    cancelled: bool
    """Whether the waiter was, meanwhile."""
    failure: BaseException | None


async def _outlast(work: Coroutine[Any, Any, None]) -> _Outcome:
    """Run `work` to its end, however often the waiter is cancelled."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    return _Outcome(cancelled, asyncio.CancelledError() if task.cancelled() else task.exception())
