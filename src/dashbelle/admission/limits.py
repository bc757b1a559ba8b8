"""How much a key and a model may do per minute and at once: checked and reserved before a call, put right after it.

A sliding window, not a token bucket: a bucket of L that refills at L a minute lets almost 2 L through within one
minute. Here the calls that begin within any 60 s are never more than the limit, nor are their tokens. A call counts
with all that it may use when it is admitted and with what it used from its end on, always in the minute of its
admission: so each reservation frees by itself at a time that can be told, however long the call runs.

A call that may use more than a whole minute's tokens reserves the whole minute, and is not refused for ever; what it
really used counts in full afterwards. Only such a call can pass the limit, and only when it has a minute for itself.

Budgets per day or for ever are no matter of this module: they are the ledger's, checked where it writes a reservation.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dashbelle.admission.window import Window
from dashbelle.errors import (
    ConcurrencyLimitReached,
    LimitReached,
    Refused,
    RequestLimitReached,
    TokenLimitReached,
)
from dashbelle.vocabulary import Caller

MEMORY = 0.2
"""How much the newest call counts in the moving mean of their durations."""
FIRST_GUESS_S = 1.0
"""How long a call is taken to last before any was measured."""
LONGEST_RETRY_S = 60
SWEPT = 2
"""Scopes that one admission looks at, to forget those without use."""

Scope = tuple[str, int | str]
"""("key", its id) or ("model", its name)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key, or one model, may do; None: no limit, 0: nothing at all. Raises ValueError for less."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_calls: int | None = None
    """Open at the same time, those that wait for a slot included."""

    def __post_init__(self) -> None:
        if any(limit is not None and limit < 0 for limit in self._all()):
            raise ValueError("a limit is 0 or more")

    def _all(self) -> tuple[int | None, ...]:
        return self.requests_per_minute, self.tokens_per_minute, self.concurrent_calls


NO_LIMITS = Limits()


@dataclass(frozen=True)
class LimitTable:
    """The limits in force at one time, by key id and by model name; a snapshot, replaced as a whole.

    An entry stands instead of the default, not beside it. Raises ValueError for a share that is not above 0.
    """

    keys: Mapping[int, Limits] = field(default_factory=dict)
    models: Mapping[str, Limits] = field(default_factory=dict)
    key_default: Limits = NO_LIMITS
    model_default: Limits = NO_LIMITS
    shares: Mapping[int, float] = field(default_factory=dict)
    """Key id -> its part of a busy model, where that is not 1."""

    def __post_init__(self) -> None:
        if not all(0 < share < math.inf for share in self.shares.values()):
            raise ValueError("a share is a number above 0")

    def of(self, scope: Scope) -> Limits:
        """The limits of a key or a model."""
        kind, name = scope
        if kind == "key":
            return self.keys.get(int(name), self.key_default)
        return self.models.get(str(name), self.model_default)

    def share_of(self, key_id: int) -> float:
        """The key's part of a busy model; a key of share 2 gets twice what one of share 1 gets."""
        return self.shares.get(key_id, 1.0)


@dataclass(slots=True)
class _Use:
    """What one key or one model does and did."""

    requests: Window = field(default_factory=Window)
    tokens: Window = field(default_factory=Window)
    open_calls: int = 0

    def is_over(self, now: float) -> bool:
        """Whether there is nothing left to remember."""
        return not (self.open_calls or self.requests.total(now) or self.tokens.total(now))


@dataclass(frozen=True, slots=True)
class _Charge:
    use: _Use
    request_cell: int
    token_cell: int
    tokens: int


@dataclass(slots=True)
class Grant:
    """What was reserved for one call, in every scope that it falls under."""

    charges: tuple[_Charge, ...]
    since: float
    used_tokens: int = 0
    """What the call really took, input and output; to be told before it is settled."""
    is_open: bool = True


class Limiter:
    """Counts what every key and every model uses, limited or not, so that a limit set later knows the last minute.

    `table` may be replaced at any time and holds from the next call on.
    """

    def __init__(self, table: LimitTable | None = None) -> None:
        self.table = table or LimitTable()
        self._uses: OrderedDict[Scope, _Use] = OrderedDict()
        """The one that was used longest ago first."""
        self._mean_s = FIRST_GUESS_S

    @contextmanager
    def within(
        self, caller: Caller, models: Sequence[str], tokens: int, clock: Callable[[], float]
    ) -> Generator[Grant, None, None]:
        """Reserve for a call, and settle however the block ends. One refused before it used anything never came."""
        grant = self.admit(caller, models, tokens, clock())
        try:
            yield grant
        except Refused:
            if not grant.used_tokens:
                self.cancel(grant)
            raise
        finally:
            if grant.is_open:
                self.settle(grant, grant.used_tokens, clock())

    def admit(self, caller: Caller, models: Sequence[str], tokens: int, now: float) -> Grant:
        """Reserve one call with all the `tokens` that it may use, under its key and each of `models`, or nothing.

        Raises of all the limits without room the LimitReached that keeps the call waiting longest.
        """
        labels: dict[Scope, str] = {("key", caller.key_id): f"Key '{caller.key_name}'"}
        labels |= {("model", name): f"Model '{name}'" for name in models}
        self._sweep(now)
        refusals = [refusal for scope, label in labels.items() for refusal in self._refusals(scope, label, tokens, now)]
        if refusals:
            raise max(refusals, key=lambda refusal: math.inf if (wait := refusal.retry_after_s) is None else wait)
        return Grant(tuple(self._charge(scope, tokens, now) for scope in labels), now)

    def settle(self, grant: Grant, tokens: int, now: float) -> None:
        """The call has ended and really used `tokens`. Raises ValueError if it was settled or cancelled before."""
        self._close(grant)
        for charge in grant.charges:
            charge.use.tokens.amend(charge.token_cell, tokens - charge.tokens)
        self._mean_s += MEMORY * (max(now - grant.since, 0.0) - self._mean_s)

    def cancel(self, grant: Grant) -> None:
        """The call was refused after all and counts for nothing. Raises ValueError as `settle` does."""
        self._close(grant)
        for charge in grant.charges:
            charge.use.tokens.amend(charge.token_cell, -charge.tokens)
            charge.use.requests.amend(charge.request_cell, -1)

    def recall(self, key_id: int, models: Sequence[str], tokens: int, age_s: float, now: float) -> None:
        """Count a call of before this start, admitted `age_s` ago; oldest first, `tokens` all that it may have used."""
        scopes: list[Scope] = [("key", key_id), *(("model", name) for name in dict.fromkeys(models))]
        for scope in scopes:
            use = self._use(scope)
            use.requests.charge(1, now - max(age_s, 0.0))
            use.tokens.charge(tokens, now - max(age_s, 0.0))

    def _refusals(self, scope: Scope, label: str, tokens: int, now: float) -> Generator[LimitReached, None, None]:
        use, limits = self._use(scope), self.table.of(scope)
        for kind, window, limit, asked in (
            (RequestLimitReached, use.requests, limits.requests_per_minute, 1),
            (TokenLimitReached, use.tokens, limits.tokens_per_minute, tokens),
        ):
            if limit is None:
                continue
            used = window.total(now)
            excess = used + max(min(asked, limit), 1) - limit
            if excess > 0:
                wait_s = window.frees_in(excess, now)
                retry_after_s = None if wait_s is None else max(math.ceil(wait_s), 1)
                reset_s = window.empty_in(now)
                yield kind(label, limit=limit, used=used, asked=asked, retry_after_s=retry_after_s, reset_s=reset_s)
        limit, used = limits.concurrent_calls, use.open_calls
        if limit is not None and used >= limit:
            wait_s = min(max(math.ceil(self._mean_s / max(used, 1)), 1), LONGEST_RETRY_S)
            yield ConcurrencyLimitReached(
                label, limit=limit, used=used, retry_after_s=wait_s if limit else None, reset_s=float(wait_s)
            )

    def _charge(self, scope: Scope, tokens: int, now: float) -> _Charge:
        use, limit = self._use(scope), self.table.of(scope).tokens_per_minute
        reserved = tokens if limit is None else min(tokens, limit)
        use.open_calls += 1
        return _Charge(use, use.requests.charge(1, now), use.tokens.charge(reserved, now), reserved)

    @staticmethod
    def _close(grant: Grant) -> None:
        if not grant.is_open:
            raise ValueError("a grant is settled or cancelled once")
        grant.is_open = False
        for charge in grant.charges:
            charge.use.open_calls -= 1

    def _use(self, scope: Scope) -> _Use:
        use = self._uses.get(scope)
        if use is None:
            use = self._uses[scope] = _Use()
        self._uses.move_to_end(scope)
        return use

    def _sweep(self, now: float) -> None:
        for _ in range(min(SWEPT, len(self._uses))):
            scope, use = next(iter(self._uses.items()))
            if use.is_over(now):
                del self._uses[scope]
            else:
                self._uses.move_to_end(scope)
