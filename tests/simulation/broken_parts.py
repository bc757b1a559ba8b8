"""Parts with one rule broken each, so that it can be seen that the simulation finds them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gateway import Call, Gateway, Parts

from dashbelle.admission.limits import Grant, Limiter, LimitTable, Scope, _Charge, _Use
from dashbelle.admission.schedule import LEAST_TOKENS, Moves, Schedule, Visit, _Account, _Running
from dashbelle.admission.window import CELLS_PER_S, WINDOW_S, Window
from dashbelle.errors import LimitReached
from dashbelle.vocabulary import Caller


class LeakySlots(Schedule):
    """A wide call that ends gives one slot back."""

    def finish(self, ticket: int, now: float, used_tokens: int = 0) -> Moves:
        self._free -= self._running[ticket].slots - 1
        return super().finish(ticket, now, used_tokens)


class EndlessLine(Schedule):
    """Places are not counted."""

    def check_room(self, visit: Visit) -> None:
        pass


class EndlessLane(Schedule):
    """Places per key are not counted."""

    def __init__(self, slots: int, places: int, places_per_key: int | None = None) -> None:
        super().__init__(slots, places)
        del places_per_key


class MissingPlace(Schedule):
    """One place less than there should be."""

    def __init__(self, slots: int, places: int, places_per_key: int | None = None) -> None:
        super().__init__(slots, max(places - 1, 0), places_per_key)


class FirstComeFirstServed(Schedule):
    """One line for all keys."""

    def _rank(self, key: int) -> None:
        super()._rank(key)
        account = self._accounts[key]
        if account.waiting:
            self._order.put(key, (account.waiting[next(iter(account.waiting))].serial,))


class LastComeFirstServed(Schedule):
    """The newest call of a key is its next."""

    def arrive(self, ticket: int, visit: Visit, now: float) -> Moves:
        moves = super().arrive(ticket, visit, now)
        if ticket in self._key_of:
            self._accounts[visit.key].waiting.move_to_end(ticket, last=False)
        return moves


class NarrowFirst(Schedule):
    """Who fits goes, whoever is next."""

    def _start(self) -> Iterator[int]:
        yield from super()._start()
        for key in list(self._accounts):
            account = self._accounts[key]
            if account.waiting and account.waiting[next(iter(account.waiting))].slots <= self._free:
                self._order.put(key, (-1.0,))
                yield from super()._start()


class CallsNotTokens(Schedule):
    """Every call weighs the same."""

    def _guess(self, visit: Visit, account: _Account) -> float:
        del visit, account
        return LEAST_TOKENS

    def _settle(self, running: _Running, used_tokens: int) -> None:
        del used_tokens
        super()._settle(running, 0)


class FreeWhenCutShort(Schedule):
    """A call that used nothing cost nothing."""

    def _settle(self, running: _Running, used_tokens: int) -> None:
        super()._settle(running, used_tokens)
        if used_tokens == 0:
            self._accounts[running.visit.key].round = self._round
            self._rank(running.visit.key)


class EndlessDebt(Schedule):
    """What a key took while nobody else waited is held against it in full."""

    def _settle(self, running: _Running, used_tokens: int) -> None:
        account = self._accounts[running.visit.key]
        due = account.round + (max(used_tokens, LEAST_TOKENS) * 3 - running.charged) / running.visit.share
        super()._settle(running, used_tokens)
        account.round = max(due, self._round)
        self._rank(running.visit.key)


class SavedCredit(Schedule):
    """A key that was away may take what it did not use meanwhile."""

    def _account(self, key: int) -> _Account:
        if key not in self._accounts:
            self._accounts[key] = _Account(0.0, self._output_mean)
        self._idle.discard(key)
        return self._accounts[key]


class NoDeadlines(Schedule):
    """Who waits too long goes on waiting."""

    def _expire(self) -> Iterator[int]:
        return iter(())


class DeafToLeavers(Schedule):
    """When the next call gives up, nobody behind it is looked at."""

    def leave(self, ticket: int, now: float) -> Moves:
        del now
        self._remove(ticket)
        return Moves([], [])


class OneAtATime(Schedule):
    """Of several that fit now, one starts."""

    def _start(self) -> Iterator[int]:
        for ticket in super()._start():
            yield ticket
            return


class _OwnWindows(Limiter):
    """Counts in windows of another kind."""

    window: type[Window] = Window

    def _use(self, scope: Scope) -> _Use:
        if scope not in self._uses:
            self._uses[scope] = _Use(self.window(), self.window())
        return super()._use(scope)


class CalendarMinutes(_OwnWindows):
    """What counts is the minute on the clock, not the last sixty seconds."""

    class _Minute(Window):
        def total(self, now: float) -> int:
            super().total(now)
            start = math.floor(now / WINDOW_S) * WINDOW_S * CELLS_PER_S
            return sum(amount for cell, amount in self._cells.items() if cell >= start)

    window = _Minute


class ForgetfulClock(_OwnWindows):
    """A clock that goes back mixes old and new cells up."""

    class _Raw(Window):
        def _cell(self, now: float) -> int:
            return math.floor(now * CELLS_PER_S)

    window = _Raw


class EarlyCells(_OwnWindows):
    """A cell is dropped when its first charge is a minute old, not its last."""

    class _Early(Window):
        def total(self, now: float) -> int:
            return super().total(now + 1 / CELLS_PER_S)

    window = _Early


class CountedAtTheEnd(Limiter):
    """Tokens are checked at admission and charged at the end: what runs meanwhile is not seen."""

    def _charge(self, scope: Scope, tokens: int, now: float) -> _Charge:
        del tokens
        charge = super()._charge(scope, 1, now)
        charge.use.tokens.amend(charge.token_cell, -charge.tokens)
        return _Charge(charge.use, charge.request_cell, charge.token_cell, 0)

    def settle(self, grant: Grant, tokens: int, now: float) -> None:
        for charge in grant.charges:
            charge.use.tokens.charge(tokens, now)
        super().settle(grant, 0, now)


class NeverRefunded(Limiter):
    """What was reserved stays charged."""

    def settle(self, grant: Grant, tokens: int, now: float) -> None:
        super().settle(grant, max(tokens, *(charge.tokens for charge in grant.charges)), now)


class RefundedTwice(Limiter):
    """What a call did not use is given back twice."""

    def settle(self, grant: Grant, tokens: int, now: float) -> None:
        super().settle(grant, tokens, now)
        for charge in grant.charges:
            charge.use.tokens.amend(charge.token_cell, tokens - charge.tokens)


class RefusedButCounted(Limiter):
    """A call that the line refused still counts as a request."""

    def cancel(self, grant: Grant) -> None:
        super().cancel(grant)
        for charge in grant.charges:
            charge.use.requests.amend(charge.request_cell, 1)


class ChargedThenChecked(Limiter):
    """A call that is refused under one scope has already been charged under another."""

    def admit(self, caller: Caller, models: tuple[str, ...], tokens: int, now: float) -> Grant:  # type: ignore[override]
        try:
            return super().admit(caller, models, tokens, now)
        except LimitReached:
            self._use(("key", caller.key_id)).requests.charge(1, now)
            raise


class KeysOnly(Limiter):
    """Models have no limits."""

    def admit(self, caller: Caller, models: tuple[str, ...], tokens: int, now: float) -> Grant:  # type: ignore[override]
        full, self.table = self.table, LimitTable(keys=self.table.keys, key_default=self.table.key_default)
        try:
            return super().admit(caller, models, tokens, now)
        finally:
            self.table = full


class FirstCallRefused(Limiter):
    """A call that might take more than a minute's tokens is refused for ever."""

    def admit(self, caller: Caller, models: tuple[str, ...], tokens: int, now: float) -> Grant:  # type: ignore[override]
        limit = self.table.of(("key", caller.key_id)).tokens_per_minute
        grant = super().admit(caller, models, tokens, now)
        if limit is not None and tokens > limit:
            self.cancel(grant)
            list(self._refusals(("key", caller.key_id), "", tokens, now))
            kind = next(iter(LimitReached.__subclasses__()))
            raise kind(f"'k{caller.key_id}'", limit=limit, used=0, asked=tokens, retry_after_s=1)
        return grant


class OneTooMany(Limiter):
    """One call more may be open than the limit says."""

    def _refusals(self, scope: Scope, label: str, tokens: int, now: float) -> Iterator[LimitReached]:  # type: ignore[override]
        self._use(scope).open_calls -= 1
        try:
            yield from list(super()._refusals(scope, label, tokens, now))
        finally:
            self._use(scope).open_calls += 1


class ImpatientPromise(Limiter):
    """A refusal names a time at which there is no room yet."""

    def _refusals(self, scope: Scope, label: str, tokens: int, now: float) -> Iterator[LimitReached]:  # type: ignore[override]
        for refusal in super()._refusals(scope, label, tokens, now):
            refusal.retry_after_s = max((refusal.retry_after_s or 1) - 2, 1)
            yield refusal


class HastySweep(Limiter):
    """A key whose calls are open is forgotten with those that have gone."""

    def _sweep(self, now: float) -> None:
        del now
        self._uses.pop(next(iter(self._uses), ("key", -1)), None)


class SettledTwice(Gateway):
    """The row of a call that was over when its settlement was written is written again."""

    def settle_row(self, call: Call) -> None:
        super().settle_row(call)
        if call.is_over:
            super().settle_row(call)


class ReservedTwice(Gateway):
    """A call that has its slots already reserves again when its row is written."""

    def write_row(self, call: Call) -> None:
        super().write_row(call)
        if call.has_slots:
            self.book.reserve(call)


class LostSettlement(Gateway):
    """A call that was sent away is never settled."""

    def settle_row(self, call: Call) -> None:
        if not call.sent_away:
            super().settle_row(call)


class HeldForEver(Gateway):
    """The slots of a call whose row could not be written are not given back."""

    def refuse_row(self, call: Call, now: float) -> Moves:
        if not call.has_slots:
            return super().refuse_row(call, now)
        if call.grant is not None:
            self.limiter.cancel(call.grant)
        call.settled = True
        del self.calls[call.number]
        return Moves([], [])


class NoMemoryOfBefore(Gateway):
    """After a restart the last minute is forgotten."""

    def recall(self, past: list[tuple[Call, int]], true_now: float, now: float) -> None:
        pass


BROKEN: list[Parts] = [
    *(
        Parts(schedule=schedule)
        for schedule in (
            LeakySlots,
            EndlessLine,
            EndlessLane,
            MissingPlace,
            FirstComeFirstServed,
            LastComeFirstServed,
            NarrowFirst,
            CallsNotTokens,
            FreeWhenCutShort,
            EndlessDebt,
            SavedCredit,
            NoDeadlines,
            DeafToLeavers,
            OneAtATime,
        )
    ),
    *(
        Parts(limiter=limiter)
        for limiter in (
            CalendarMinutes,
            ForgetfulClock,
            EarlyCells,
            CountedAtTheEnd,
            NeverRefunded,
            RefundedTwice,
            RefusedButCounted,
            ChargedThenChecked,
            KeysOnly,
            FirstCallRefused,
            OneTooMany,
            ImpatientPromise,
            HastySweep,
        )
    ),
    *(
        Parts(gateway=gateway)
        for gateway in (SettledTwice, ReservedTwice, LostSettlement, HeldForEver, NoMemoryOfBefore)
    ),
]
