"""What limits cost, in bytecodes: with 10,000 keys as with ten, after 10,000 calls as after one."""

from __future__ import annotations

import pytest
from steps import steps_of

from dashbelle.admission.limits import Limiter, Limits, LimitTable
from dashbelle.admission.window import CELLS_PER_S, WINDOW_S
from dashbelle.errors import LimitReached
from dashbelle.vocabulary import Caller

CALLER = Caller(1, "anna")
NOW = 1000.0
CELL = 20
"""Bytecodes that one cell of a window costs at most, when it is dropped or looked at."""


def limiter_with(keys: int, calls: int) -> Limiter:
    """Limits that refuse nobody yet; `calls` calls of the last minute, spread over `keys` keys."""
    plenty = Limits(requests_per_minute=10**6, tokens_per_minute=10**9, concurrent_calls=10**6)
    limiter = Limiter(LimitTable(key_default=plenty, model_default=plenty))
    for number in range(calls):
        caller = Caller(1 + number % keys, "x")
        limiter.settle(limiter.admit(caller, ["m"], 5, NOW - 50 + 50 * number / calls), 3, NOW)
    return limiter


def costs(limiter: Limiter) -> tuple[int, int, int]:
    """Of admitting, settling, cancelling."""
    grants = [limiter.admit(CALLER, ["m"], 5, NOW) for _ in range(2)]
    return (
        steps_of(lambda: limiter.admit(CALLER, ["m"], 5, NOW)),
        steps_of(lambda: limiter.settle(grants[0], 3, NOW)),
        steps_of(lambda: limiter.cancel(grants[1])),
    )


@pytest.mark.parametrize(("keys", "calls"), [(10_000, 10_000), (1, 10_000), (100, 10_000)])
def test_an_admission_costs_no_more_after_thousands_of_calls_of_thousands_of_keys(keys: int, calls: int) -> None:
    many, few = costs(limiter_with(keys, calls)), costs(limiter_with(10, 10))
    assert all(mine <= least for mine, least in zip(many, few, strict=True)), (many, few)


def test_a_refusal_costs_one_look_at_a_minute_at_most() -> None:
    def refused(limiter: Limiter) -> None:
        with pytest.raises(LimitReached):
            limiter.admit(CALLER, ["m"], 5, NOW)

    limiter = limiter_with(1, 10_000)
    limiter.table = LimitTable(key_default=Limits(requests_per_minute=1, tokens_per_minute=1))
    assert steps_of(lambda: refused(limiter)) < 2 * CELL * WINDOW_S * CELLS_PER_S


def test_a_minute_that_has_passed_costs_its_cells_at_most() -> None:
    limiter = limiter_with(1, 10_000)
    assert steps_of(lambda: limiter.admit(CALLER, ["m"], 5, NOW + 100)) < 4 * 2 * CELL * WINDOW_S * CELLS_PER_S
