"""The arithmetic of budgets: which ones a call falls under, what it costs there, and how a refusal explains itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from dashbelle.errors import BudgetUsedUp, FreeTierUsedUp, MoneyUsedUp
from dashbelle.vocabulary import BudgetPeriod, LimitKind, LimitScope

BILLIONTHS = 10**9
MONEY_DIGITS = 9
SOON_S = 5
"""When to come back if nothing but running calls is in the way, in seconds."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one token costs, in the unit of a budget: billionths of the currency, or tokens."""

    input: int
    output: int

    def of(self, input_tokens: int, output_tokens: int) -> int:
        """What these tokens cost."""
        return self.input * input_tokens + self.output * output_tokens


TOKENS_THEMSELVES = Price(1, 1)
FREE = Price(0, 0)


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget as the database has it. An empty name: each key or model that has none of this kind and period."""

    id: int
    scope: LimitScope
    name: str
    kind: LimitKind
    period: BudgetPeriod
    amount: int


@dataclass(frozen=True, slots=True)
class Balance:
    """How much of a budget is used up. `reserved` belongs to calls that run."""

    spent: int
    reserved: int


def covering(budgets: Iterable[Budget], key: str, models: Iterable[str]) -> list[tuple[Budget, str]]:
    """The budgets that a call falls under, each with the name of the key or model whose balance it is.

    `models`: the one that was asked for and the one that answers. A budget of one's own stands instead of everybody's
    of the same kind and period, not beside it.
    """
    subjects = {(LimitScope.KEY, key), *((LimitScope.MODEL, model) for model in models)}
    found: dict[tuple[LimitScope, str, LimitKind, BudgetPeriod], Budget] = {}
    for budget in sorted(budgets, key=lambda each: (each.name, each.id)):  # the empty name comes first
        for scope, name in subjects:
            if budget.scope is scope and budget.name in {"", name}:
                found[scope, name, budget.kind, budget.period] = budget
    return [(budget, name) for (_, name, _, _), budget in sorted(found.items())]


def period_name(period: BudgetPeriod, at: datetime) -> str:
    """Which day, month or total a moment falls into: 2026-01-31, 2026-01, total."""
    moment = at.astimezone(UTC)
    return {
        BudgetPeriod.DAY: f"{moment:%Y-%m-%d}",
        BudgetPeriod.MONTH: f"{moment:%Y-%m}",
        BudgetPeriod.TOTAL: "total",
    }[period]


def full_at(period: BudgetPeriod, at: datetime) -> datetime | None:
    """When the budget that is in force at a moment is full again; None: never."""
    midnight = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is BudgetPeriod.DAY:
        return midnight + timedelta(days=1)
    if period is BudgetPeriod.MONTH:
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None


def refusal(budget: Budget, name: str, balance: Balance, asked: int, at: datetime) -> BudgetUsedUp:
    """Why a call that may cost `asked` does not fit, in words and as the protocol's error."""
    show = money if budget.kind is LimitKind.MONEY else str
    period = {BudgetPeriod.TOTAL: "in total"}.get(budget.period, f"of {period_name(budget.period, at)} (UTC)")
    reserved = f", {show(balance.reserved)} reserved by running calls" if balance.reserved else ""
    used = (
        f"The {budget.scope} {name!r} has used {show(balance.spent)} of {show(budget.amount)} {_UNITS[budget.kind]} "
        f"{period}{reserved}; this call may use up to {show(asked)}."
    )
    kind, outlook, wait_s = _outlook(budget, balance, asked, at)
    return kind(f"{used} {outlook}", retry_after_s=wait_s)


_UNITS = {LimitKind.TOKENS: "tokens", LimitKind.MONEY: "of money"}


def _outlook(budget: Budget, balance: Balance, asked: int, at: datetime) -> tuple[type[BudgetUsedUp], str, int | None]:
    if balance.spent + asked <= budget.amount:
        return BudgetUsedUp, "There may be room when running calls have ended.", SOON_S
    if asked > budget.amount > balance.spent:
        return BudgetUsedUp, "That is more than the whole budget: ask for less with max_tokens.", None
    full = full_at(budget.period, at)
    if full is None:
        return _error(budget), "This budget is not filled again.", None
    wait_s = math.ceil((full - at).total_seconds())
    return _error(budget), f"It is full again at {full:%Y-%m-%d %H:%M} UTC.", wait_s


def _error(budget: Budget) -> type[BudgetUsedUp]:
    if budget.kind is LimitKind.MONEY:
        return MoneyUsedUp
    return FreeTierUsedUp if budget.period is BudgetPeriod.TOTAL else BudgetUsedUp


def money(billionths: int) -> str:
    """An amount as people write it: at least two digits behind the point, and no zeros behind those."""
    whole, _, digits = format(Decimal(billionths).scaleb(-MONEY_DIGITS), f".{MONEY_DIGITS}f").partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(2, '0')}"
