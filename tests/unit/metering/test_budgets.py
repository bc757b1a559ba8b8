"""Budgets: whose they are, when they are full again, what a call costs, and a refusal that explains itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dashbelle.errors import BudgetUsedUp, FreeTierUsedUp, MoneyUsedUp
from dashbelle.metering.budgets import (
    BILLIONTHS,
    Balance,
    Budget,
    Price,
    covering,
    full_at,
    money,
    period_name,
    refusal,
)
from dashbelle.vocabulary import BudgetPeriod, LimitKind, LimitScope

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def budget(
    name: str = "ci",
    amount: int = 1000,
    *,
    number: int = 1,
    scope: LimitScope = LimitScope.KEY,
    kind: LimitKind = LimitKind.TOKENS,
    period: BudgetPeriod = BudgetPeriod.DAY,
) -> Budget:
    return Budget(number, scope, name, kind, period, amount)


def test_a_price_counts_input_and_output() -> None:
    assert Price(800, 2000).of(40, 128) == 40 * 800 + 128 * 2000


def test_a_call_falls_under_the_budgets_of_its_key_and_of_both_its_models() -> None:
    ours, asked, answering = budget(), budget("belle", scope=LimitScope.MODEL), budget("smol", scope=LimitScope.MODEL)
    budgets = [ours, asked, answering, budget("other"), budget("other", scope=LimitScope.MODEL)]
    found = covering(budgets, "ci", ("belle", "smol"))
    assert set(found) == {(ours, "ci"), (asked, "belle"), (answering, "smol")}
    assert covering(budgets, "phone", ("qwen", "qwen")) == []


def test_a_budget_for_each_is_every_ones_own() -> None:
    each = budget("", scope=LimitScope.KEY)
    assert covering([each], "ci", ["belle"]) == [(each, "ci")]
    assert covering([each], "phone", ["belle"]) == [(each, "phone")]
    each_model = budget("", scope=LimitScope.MODEL)
    assert covering([each_model], "ci", ("belle", "smol")) == [(each_model, "belle"), (each_model, "smol")]
    assert covering([each_model], "ci", ("smol", "smol")) == [(each_model, "smol")]


def test_a_budget_of_ones_own_stands_instead_of_everybodys_and_beside_other_periods() -> None:
    each, own = budget("", number=2), budget("ci", number=1)
    each_month = budget("", number=3, period=BudgetPeriod.MONTH)
    assert covering([own, each, each_month], "ci", ["belle"]) == [(own, "ci"), (each_month, "ci")]


def test_a_key_may_be_called_like_a_model() -> None:
    of_model = budget("belle", scope=LimitScope.MODEL)
    assert covering([of_model], "belle", ["smol"]) == []


@pytest.mark.parametrize(
    ("period", "at", "name", "full"),
    [
        (BudgetPeriod.DAY, NOON, "2026-01-31", datetime(2026, 2, 1, tzinfo=UTC)),
        (BudgetPeriod.MONTH, NOON, "2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
        (BudgetPeriod.TOTAL, NOON, "total", None),
        (BudgetPeriod.MONTH, datetime(2026, 12, 31, 23, 59, tzinfo=UTC), "2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        (BudgetPeriod.DAY, datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29", datetime(2024, 3, 1, tzinfo=UTC)),
        (
            BudgetPeriod.DAY,
            datetime(2026, 2, 1, 7, tzinfo=timezone(timedelta(hours=8))),
            "2026-01-31",
            datetime(2026, 2, 1, tzinfo=UTC),
        ),
    ],
)
def test_periods_are_utc_days_and_months(period: BudgetPeriod, at: datetime, name: str, full: datetime | None) -> None:
    assert (period_name(period, at), full_at(period, at)) == (name, full)


@pytest.mark.parametrize(
    ("which", "balance", "asked", "kind", "wait_s", "outlook"),
    [
        (budget(), Balance(900, 0), 101, BudgetUsedUp, 12 * 3600, "It is full again at 2026-02-01 00:00 UTC."),
        (budget(), Balance(500, 400), 101, BudgetUsedUp, 5, "There may be room when running calls have ended."),
        (budget(), Balance(0, 0), 1001, BudgetUsedUp, None, "more than the whole budget: ask for less with max_tokens"),
        (budget(period=BudgetPeriod.TOTAL), Balance(999, 0), 1001, BudgetUsedUp, None, "more than the whole budget"),
        (budget(period=BudgetPeriod.TOTAL), Balance(1000, 0), 1, FreeTierUsedUp, None, "not filled again"),
        (budget(amount=0, period=BudgetPeriod.TOTAL), Balance(0, 0), 1, FreeTierUsedUp, None, "not filled again"),
        (budget(amount=0, kind=LimitKind.MONEY), Balance(0, 0), 1, MoneyUsedUp, 12 * 3600, "full again at 2026-02-01"),
        (budget(period=BudgetPeriod.TOTAL), Balance(0, 1000), 1, BudgetUsedUp, 5, "running calls have ended"),
        (budget(kind=LimitKind.MONEY), Balance(1000, 0), 1, MoneyUsedUp, 12 * 3600, "full again at 2026-02-01"),
        (
            budget(kind=LimitKind.MONEY, period=BudgetPeriod.TOTAL),
            Balance(1000, 0),
            1,
            MoneyUsedUp,
            None,
            "not filled again",
        ),
    ],
)
def test_a_refusal_says_whether_when_and_how_it_frees(
    which: Budget, balance: Balance, *, asked: int, kind: type[BudgetUsedUp], wait_s: int | None, outlook: str
) -> None:
    refused = refusal(which, "ci", balance, asked, NOON)
    assert type(refused) is kind
    assert refused.retry_after_s == wait_s
    assert outlook in refused.message
    assert refused.message.startswith(kind.default_message)
    assert refused.should_retry is (None if wait_s == 5 else False)


def test_a_refusal_names_the_limit_its_unit_and_what_is_used() -> None:
    refused = refusal(budget(), "ci", Balance(500, 450), 101, NOON)
    assert refused.message == (
        "Allocated quota exceeded, please increase your quota limit. The key 'ci' has used 500 of 1000 tokens of "
        "2026-01-31 (UTC), 450 reserved by running calls; this call may use up to 101. "
        "There may be room when running calls have ended."
    )
    spent = Balance(5 * BILLIONTHS, 0)
    month = budget("belle", 5 * BILLIONTHS, scope=LimitScope.MODEL, kind=LimitKind.MONEY, period=BudgetPeriod.MONTH)
    assert "The model 'belle' has used 5.00 of 5.00 of money of 2026-01 (UTC); this call may use up to 0.000123." in (
        refusal(month, "belle", spent, 123_000, NOON).message
    )


@pytest.mark.parametrize(
    ("billionths", "shown"),
    [(0, "0.00"), (5 * BILLIONTHS, "5.00"), (1, "0.000000001"), (1_230_000_000, "1.23"), (12 * BILLIONTHS, "12.00")],
)
def test_money_is_shown_exactly(billionths: int, shown: str) -> None:
    assert money(billionths) == shown
