"""What must hold after every event, worked out from the list of all calls instead of from the parts' own counters."""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field

from gateway import Call, Gateway, LineSizes, check

from dashbelle.admission.limits import Limits, LimitTable, Scope
from dashbelle.admission.schedule import LEAST_TOKENS
from dashbelle.admission.window import CELLS_PER_S
from dashbelle.errors import LimitReached, QueueFull, RequestLimitReached, TokenLimitReached

MINUTE = 60.0
LATEST = MINUTE + 1 / CELLS_PER_S
"""A charge may count so long."""
ROUNDING = 1e-6
"""Two clocks that were added to differently disagree by less."""


@dataclass(eq=False, slots=True)
class Charge:
    """One call under one scope, as far as the limits must remember it."""

    call: Call
    tokens: int
    """Reserved, until the call has ended."""
    true_time: float
    clock: float
    """The latest that the gateway's clock had shown."""
    was_cancelled: bool = False

    @property
    def cost(self) -> int:
        return self.call.used if self.call.settled and self.call.grant is not None else self.tokens


@dataclass(eq=False)
class LineLog:
    """What happened in one line since the gateway's start."""

    slots: int
    places: int
    places_per_key: int
    clock: float = -math.inf
    waiting: OrderedDict[int, Call] = field(default_factory=OrderedDict)
    running: dict[int, Call] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    served: set[int] = field(default_factory=set)
    """Keys of which a call has started since they last had none here."""
    dearest: float = 0.0
    """The most rounds that a call could cost so far."""
    passed: dict[int, dict[int, list[Call]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    """Key whose head waits -> key -> the calls of that key that started meanwhile."""
    ahead: dict[tuple[int, int], float] = field(default_factory=dict)
    """Two keys -> the rounds that the first got more than the second, since both wait."""


class Rules:
    """The judge of one gateway's life. `exact`: calls take just what they may, so that guesses at costs are true."""

    def __init__(self, gateway: Gateway, lines: LineSizes, table: LimitTable, *, exact: bool) -> None:
        self.gateway = gateway
        self.exact = exact
        self.table = table
        self.clock = self.latest_clock = -math.inf
        """What the gateway's clock shows, and the latest that it ever did."""
        self.lines = {
            model: LineLog(slots, places, places if per_key is None else min(places, per_key))
            for model, (slots, places, per_key) in lines.items()
        }
        self.charges: dict[Scope, list[Charge]] = defaultdict(list)
        self.open_calls: dict[Scope, int] = defaultdict(int)

    def reads(self, clock: float) -> None:
        """The clock shows this now."""
        self.clock = clock
        self.latest_clock = max(self.latest_clock, clock)

    # --- what happened ---------------------------------------------------------------------------------------------

    def admitted(self, call: Call, true_now: float) -> None:
        for scope in call.scopes:
            limits = self.table.of(scope)
            limit = limits.tokens_per_minute
            reserved = call.worst_case if limit is None else min(call.worst_case, limit)
            self.charges[scope].append(Charge(call, reserved, true_now, self.latest_clock))
            self.open_calls[scope] += 1
            self._under_limits(scope, limits, true_now)
        line = self.lines[call.model]
        line.known.add(call.key)
        line.waiting[call.number] = call
        visit = call.visit
        line.dearest = max(line.dearest, max(call.worst_case, LEAST_TOKENS) / visit.share)

    def _under_limits(self, scope: Scope, limits: Limits, true_now: float) -> None:
        """No 60 s hold more than the limit, each call taken at its worst while it is open."""
        minute = [charge for charge in self.charges[scope] if true_now - charge.true_time <= MINUTE - ROUNDING]
        for what, used, limit in (
            ("requests", len(minute), limits.requests_per_minute),
            ("tokens", sum(charge.cost for charge in minute), limits.tokens_per_minute),
            ("open calls", self.open_calls[scope], limits.concurrent_calls),
        ):
            check(limit is None or used <= limit, f"{what} never pass their limit", scope, used, limit)

    def cancelled(self, call: Call) -> None:
        for scope in call.scopes:
            self.charges[scope] = [charge for charge in self.charges[scope] if charge.call is not call]
            self.open_calls[scope] -= 1

    def released(self, call: Call) -> None:
        for scope in call.scopes:
            self.open_calls[scope] -= 1

    def recalled(self, past: list[tuple[Call, int]], true_now: float) -> None:
        for call, tokens in past:
            clock = self.latest_clock - (true_now - call.admitted_at)
            for scope in call.scopes:
                self.charges[scope].append(Charge(call, tokens, call.admitted_at, clock))

    def started(self, call: Call) -> None:
        line = self.lines[call.model]
        check(call.visit.deadline > line.clock, "nobody starts behind its deadline", call.number)
        check(call.number in line.waiting, "who starts has waited", call.number)
        heads = self._heads(line)
        check(heads[call.key] is call, "calls of a key start in their order", call.number, heads[call.key].number)
        came_fresh = call.key not in line.served
        for other in line.waiting.values():
            next_is_other = other.first_of_key and not (came_fresh and call.number <= other.number)
            check(not next_is_other, "a new key's first call is next", call.number, other.number)
        del line.waiting[call.number]
        line.running[call.number] = call
        line.served.add(call.key)
        self._nobody_starves(line, call, heads)
        self._tokens_are_shared(line, call, heads)

    @staticmethod
    def _heads(line: LineLog) -> dict[int, Call]:
        heads: dict[int, Call] = {}
        for call in line.waiting.values():
            heads.setdefault(call.key, call)
        return heads

    @staticmethod
    def _nobody_starves(line: LineLog, call: Call, heads: dict[int, Call]) -> None:
        """While a key's next call waits, another key gets at most what the dearest call costs, and one call more."""
        for key, head in heads.items():
            if key != call.key:
                calls = line.passed[key][call.key]
                calls.append(call)
                cost = sum(_least_cost(each) for each in calls[:-1])
                check(cost <= line.dearest + ROUNDING, "nobody is passed for ever", head.number, call.key, len(calls))

    def _tokens_are_shared(self, line: LineLog, call: Call, heads: dict[int, Call]) -> None:
        """Two keys that wait all the time get the same, in tokens by their shares, but for what two calls cost."""
        cost = max(call.worst_case, LEAST_TOKENS) / call.visit.share
        for key in heads:
            for pair, more in (((call.key, key), cost), ((key, call.key), -cost)):
                if key != call.key:
                    line.ahead[pair] = line.ahead.get(pair, 0.0) + more
                    fair = line.ahead[pair] <= 2 * line.dearest + ROUNDING
                    check(fair or not self.exact, "tokens are shared", pair, line.ahead[pair], line.dearest)
        self._lane_changed(line, call.key)

    def gave_back(self, call: Call) -> None:
        """Out of the line, out of the slots, or sent away before."""
        line = self.lines[call.model]
        line.waiting.pop(call.number, None)
        line.running.pop(call.number, None)
        self._lane_changed(line, call.key)

    def expired(self, call: Call) -> None:
        line = self.lines[call.model]
        check(call.visit.deadline <= line.clock, "nobody is sent away before its deadline", call.number)
        check(line.waiting.pop(call.number, None) is call, "who is sent away has waited", call.number)
        self._lane_changed(line, call.key)

    @staticmethod
    def _lane_changed(line: LineLog, key: int) -> None:
        line.passed.pop(key, None)  # its account was put right, or another call is its next
        if not any(other.key == key for other in line.waiting.values()):
            line.ahead = {pair: more for pair, more in line.ahead.items() if key not in pair}
        if not any(other.key == key for other in (*line.waiting.values(), *line.running.values())):
            line.served.discard(key)

    # --- refusals --------------------------------------------------------------------------------------------------

    def line_was_full(self, call: Call, refusal: QueueFull) -> None:
        line = self.lines[call.model]
        mine = sum(1 for other in line.waiting.values() if other.key == call.key)
        free = line.slots - self._busy(line)
        runs_at_once = not line.waiting and free >= min(call.visit.slots, line.slots)
        full = len(line.waiting) >= line.places or mine >= line.places_per_key
        check(full and not runs_at_once, "nobody is refused while there is room", call.number)
        check(1 <= (refusal.retry_after_s or 0) <= 60, "a refusal says when to come back", refusal.retry_after_s)

    def limit_was_reached(self, call: Call, refusal: LimitReached, true_now: float) -> None:
        kind = type(refusal)
        scope = next(scope for scope in call.scopes if refusal.scope.endswith(f"'{_label(scope)}'"))
        if kind not in {RequestLimitReached, TokenLimitReached}:
            check(self.open_calls[scope] == refusal.used >= refusal.limit, "open calls are counted exactly", refusal)
            return
        low, high = self._used(scope, kind is TokenLimitReached, true_now, 0.0)
        asked = max(min(refusal.asked, refusal.limit), 1)
        check(low <= refusal.used <= high, "what is used is counted exactly", low, refusal.used, high)
        check(refusal.used + asked > refusal.limit, "nobody is refused within the limit", refusal)
        if refusal.retry_after_s is not None:
            self._frees_when_it_said(call, true_now, refusal.retry_after_s)
            _, high = self._used(scope, kind is TokenLimitReached, true_now, refusal.retry_after_s - 1.0)
            check(high + asked > refusal.limit, "a refusal does not send away for longer than needed", refusal)

    def _frees_when_it_said(self, call: Call, true_now: float, after_s: float) -> None:
        for scope in call.scopes:
            limits = self.table.of(scope)
            for tokens, limit in ((False, limits.requests_per_minute), (True, limits.tokens_per_minute)):
                if limit is not None:
                    used, _ = self._used(scope, tokens, true_now, after_s)
                    asked = max(min(call.worst_case, limit), 1) if tokens else 1
                    check(used + asked <= limit, "what a refusal promised is free then", scope, used, limit)

    def _used(self, scope: Scope, tokens: bool, true_now: float, after_s: float) -> tuple[int, int]:  # noqa: FBT001
        """What must count and what may count, `after_s` from now if nothing else comes."""
        low = high = 0
        for charge in self.charges[scope]:
            amount = charge.cost if tokens else 1
            if true_now + after_s - charge.true_time < MINUTE - ROUNDING:
                low += amount
            if self.clock + after_s - charge.clock < LATEST + ROUNDING:
                high += amount
        return low, high

    # --- after every event -----------------------------------------------------------------------------------------

    def hold(self, true_now: float) -> None:
        for model, line in self.lines.items():
            self._line_holds(model, line)
        limiter = self.gateway.limiter
        for scope, use in limiter._uses.items():
            low, high = self._used(scope, tokens=True, true_now=true_now, after_s=0.0)
            check(low <= use.tokens.total(self.clock) <= high, "tokens are refunded exactly", scope, low, high)
            low, high = self._used(scope, tokens=False, true_now=true_now, after_s=0.0)
            check(low <= use.requests.total(self.clock) <= high, "requests are counted exactly", scope, low, high)
            check(use.open_calls == self.open_calls[scope], "open calls are counted exactly", scope, use.open_calls)
        for scope, charges in self.charges.items():
            if (
                charges
                and self.clock - charges[0].clock >= LATEST + ROUNDING
                and true_now - charges[0].true_time > MINUTE
            ):
                del charges[0]
            check(scope in limiter._uses or self.open_calls[scope] == 0, "what is open is remembered", scope)

    def all_over(self) -> None:
        """Nobody is there, and a minute has passed: nothing is left of anything."""
        for model, schedule in self.gateway.lines.items():
            check((schedule.busy, schedule.waiting) == (0, 0), "lines are empty in the end", model)
        for scope, use in self.gateway.limiter._uses.items():
            check(use.is_over(self.clock), "nothing is used in the end", scope)
        check(not any(self.open_calls.values()), "nothing is open in the end", dict(self.open_calls))

    @staticmethod
    def _busy(line: LineLog) -> int:
        return sum(min(call.visit.slots, line.slots) for call in line.running.values())

    def _line_holds(self, model: str, line: LineLog) -> None:
        schedule = self.gateway.lines[model]
        busy = self._busy(line)
        check(schedule.busy == busy <= line.slots, "slots are conserved", model, schedule.busy, busy, line.slots)
        check(schedule.waiting == len(line.waiting), "who waits is known", model, schedule.waiting, len(line.waiting))
        check(len(line.waiting) <= line.places, "no more wait than there are places", model, len(line.waiting))
        heads = self._heads(line)
        number_of: dict[int, int] = defaultdict(int)
        for call in line.waiting.values():
            number_of[call.key] += 1
            check(call.visit.deadline > line.clock, "nobody waits behind its deadline", call.number)
            place = schedule.outlook(call.number).place
            check(number_of[call.key] <= place <= len(line.waiting), "a place is one in the line", call.number, place)
        check(max(number_of.values(), default=0) <= line.places_per_key, "no key has more places than it may", model)
        widest = max((min(head.visit.slots, line.slots) for head in heads.values()), default=line.slots + 1)
        check(line.slots - busy < widest, "no slot stays free that the next could take", model, busy)


def _least_cost(call: Call) -> float:
    """What its key is charged whatever its answer takes, in rounds."""
    input_tokens = 0 if call.never_ran else call.visit.input_tokens
    return max(input_tokens, LEAST_TOKENS) / call.visit.share


def _label(scope: Scope) -> str:
    kind, name = scope
    return f"k{name}" if kind == "key" else str(name)
