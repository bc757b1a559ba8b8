"""Limits: never passed, never false, explained; what was reserved is put right exactly once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.admission.limits import NO_LIMITS, Grant, Limiter, Limits, LimitTable
from dashbelle.errors import (
    ConcurrencyLimitReached,
    LimitReached,
    QueueFull,
    RequestLimitReached,
    TokenLimitReached,
)
from dashbelle.vocabulary import Caller

ANNA, BERT = Caller(1, "anna"), Caller(2, "bert")


class Desk:
    """A limiter, and a clock that stands until it is moved."""

    def __init__(
        self, key: Limits = NO_LIMITS, model: Limits = NO_LIMITS, keys: dict[int, Limits] | None = None
    ) -> None:
        self.limiter = Limiter(LimitTable(keys=keys or {}, key_default=key, model_default=model))
        self.now = 1000.0

    def ask(self, tokens: int = 1, caller: Caller = ANNA, models: tuple[str, ...] = ("m",)) -> Grant:
        return self.limiter.admit(caller, models, tokens, self.now)

    def refusal(self, tokens: int = 1, caller: Caller = ANNA) -> LimitReached:
        with pytest.raises(LimitReached) as refusal:
            self.ask(tokens, caller)
        return refusal.value

    def end(self, grant: Grant, tokens: int) -> None:
        self.limiter.settle(grant, tokens, self.now)

    def clock(self) -> float:
        return self.now

    def run(self, tokens: int, used: int, error: Exception | None = None) -> None:
        """A whole call under its limits, which raises `error` after it used `used`."""
        with self.limiter.within(ANNA, ["m"], tokens, self.clock) as grant:
            grant.used_tokens = used
            if error is not None:
                raise error


def test_without_limits_everybody_may_everything() -> None:
    desk = Desk()
    for _ in range(10_000):
        desk.ask(10**9)


def test_requests_per_minute_are_counted_and_the_refusal_explains_itself() -> None:
    desk = Desk(Limits(requests_per_minute=3))
    for _ in range(3):
        desk.ask()
        desk.now += 10
    refusal = desk.refusal()
    assert isinstance(refusal, RequestLimitReached)
    assert (refusal.code, refusal.status) == ("Throttling.RateQuota", 429)
    assert refusal.message == (
        "Requests rate limit exceeded, please try again later. "
        "Key 'anna': 3 of 3 requests per minute used; room in 31 s."
    )
    assert (refusal.scope, refusal.unit) == ("Key 'anna'", "requests per minute")
    assert (refusal.limit, refusal.used, refusal.remaining) == (3, 3, 0)
    assert (refusal.retry_after_s, refusal.reset_s) == (31, 50.125)
    assert refusal.should_retry is None
    desk.now += 31
    desk.ask()


def test_tokens_per_minute_are_reserved_at_their_worst_and_the_refusal_explains_itself() -> None:
    desk = Desk(Limits(tokens_per_minute=1000))
    grant = desk.ask(700)
    refusal = desk.refusal(400)
    assert isinstance(refusal, TokenLimitReached)
    assert (refusal.code, refusal.status) == ("Throttling.AllocationQuota", 429)
    assert refusal.message == (
        "Allocated quota exceeded, please increase your quota limit. "
        "Key 'anna': 700 of 1000 tokens per minute used, this call may take 400; room in 61 s."
    )
    assert (refusal.limit, refusal.used, refusal.remaining, refusal.asked) == (1000, 700, 300, 400)
    desk.end(grant, 600)
    desk.ask(400)


def test_calls_at_once_are_counted_and_the_refusal_explains_itself() -> None:
    desk = Desk(Limits(concurrent_calls=2))
    first, _second = desk.ask(), desk.ask()
    refusal = desk.refusal()
    assert isinstance(refusal, ConcurrencyLimitReached)
    assert (refusal.code, refusal.status) == ("Throttling", 429)
    assert refusal.message == ("Requests throttling triggered. Key 'anna': 2 of 2 concurrent calls used; room in 1 s.")
    desk.now += 300
    assert desk.refusal().used == 2
    desk.end(first, 1)
    desk.ask()


def test_the_wait_for_a_running_call_is_guessed_from_how_long_calls_last() -> None:
    desk = Desk(keys={ANNA.key_id: Limits(concurrent_calls=2)})
    for _ in range(40):
        grant = desk.ask(caller=BERT)
        desk.now += 20
        desk.end(grant, 1)
    desk.ask(), desk.ask()
    assert desk.refusal().retry_after_s == 10


def test_a_limit_of_nothing_says_that_waiting_is_useless() -> None:
    for limits in (Limits(requests_per_minute=0), Limits(tokens_per_minute=0), Limits(concurrent_calls=0)):
        refusal = Desk(limits).refusal(5)
        assert (refusal.retry_after_s, refusal.should_retry, refusal.remaining) == (None, False, 0)
        assert refusal.message.endswith("waiting will not help.")


def test_a_models_limit_holds_for_all_keys_together() -> None:
    desk = Desk(model=Limits(requests_per_minute=2))
    desk.ask(caller=ANNA)
    desk.ask(caller=BERT)
    assert desk.refusal(caller=BERT).scope == "Model 'm'"
    desk.ask(caller=BERT, models=("other",))


def test_a_keys_limit_holds_for_all_models_together_and_for_nobody_else() -> None:
    desk = Desk(keys={ANNA.key_id: Limits(requests_per_minute=2)})
    desk.ask(models=("m",))
    desk.ask(models=("other",))
    assert desk.refusal().scope == "Key 'anna'"
    desk.ask(caller=BERT)


def test_a_model_with_two_names_is_counted_under_both_and_once_under_one() -> None:
    desk = Desk(model=Limits(requests_per_minute=2))
    desk.ask(models=("belle", "stand-in"))
    desk.ask(models=("stand-in", "stand-in"))
    with pytest.raises(RequestLimitReached, match="stand-in"):
        desk.ask(models=("belle", "stand-in"))
    desk.ask(models=("belle",))


def test_an_entry_stands_instead_of_the_default() -> None:
    table = LimitTable(
        keys={1: Limits(concurrent_calls=9)},
        models={"m": NO_LIMITS},
        key_default=Limits(requests_per_minute=1),
        model_default=Limits(requests_per_minute=2),
        shares={1: 2.5},
    )
    assert table.of(("key", 1)) == Limits(concurrent_calls=9)
    assert table.of(("key", 2)) == Limits(requests_per_minute=1)
    assert table.of(("model", "m")) == NO_LIMITS
    assert table.of(("model", "other")) == Limits(requests_per_minute=2)
    assert (table.share_of(1), table.share_of(2)) == (2.5, 1.0)


@pytest.mark.parametrize("share", [0.0, -1.0, math.inf, math.nan])
def test_a_share_is_above_nothing(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        LimitTable(shares={1: share})


def test_a_limit_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Limits(tokens_per_minute=-1)


def test_a_refused_call_reserves_nothing_anywhere() -> None:
    desk = Desk(Limits(requests_per_minute=10, tokens_per_minute=100), model=Limits(concurrent_calls=1))
    grant = desk.ask(10)
    for _ in range(50):
        desk.refusal(10)
    desk.end(grant, 10)
    for _ in range(9):
        desk.end(desk.ask(10), 10)


def test_of_several_limits_the_one_that_holds_longest_is_named() -> None:
    desk = Desk(Limits(requests_per_minute=1, concurrent_calls=1), model=Limits(tokens_per_minute=10))
    desk.ask(10)
    assert not isinstance(desk.refusal(10), ConcurrencyLimitReached)
    desk.limiter.table = LimitTable(
        key_default=Limits(requests_per_minute=1, concurrent_calls=1), model_default=Limits(tokens_per_minute=0)
    )
    assert isinstance(desk.refusal(), TokenLimitReached)


def test_the_first_call_is_never_refused_however_much_it_might_take() -> None:
    desk = Desk(Limits(requests_per_minute=1, tokens_per_minute=100, concurrent_calls=1))
    desk.end(desk.ask(5000), 20)
    desk.limiter.table = LimitTable(key_default=Limits(tokens_per_minute=100))
    desk.ask(80)
    assert desk.refusal(1).used == 100


def test_a_call_over_a_whole_minutes_tokens_has_the_minute_for_itself_and_counts_in_full() -> None:
    desk = Desk(Limits(tokens_per_minute=100))
    desk.end(desk.ask(10), 10)
    assert desk.refusal(5000).retry_after_s == 61
    desk.now += 61
    huge = desk.ask(5000)
    assert desk.refusal(1).used == 100
    desk.end(huge, 5000)
    assert (desk.refusal(1).used, desk.refusal(1).remaining) == (5000, 0)
    desk.now += 61
    desk.ask(100)


def test_a_call_counts_in_the_minute_of_its_admission_however_long_it_runs() -> None:
    desk = Desk(Limits(tokens_per_minute=100))
    long_one = desk.ask(100)
    desk.now += 61
    desk.end(desk.ask(100), 0)
    desk.end(long_one, 90)
    desk.ask(100)


def test_a_grant_is_given_back_once() -> None:
    desk = Desk()
    for end in (lambda grant: desk.end(grant, 1), desk.limiter.cancel):
        grant = desk.ask(10)
        end(grant)
        for again in (lambda grant: desk.end(grant, 1), desk.limiter.cancel):
            with pytest.raises(ValueError, match="once"):
                again(grant)


def test_a_cancelled_call_never_was() -> None:
    desk = Desk(Limits(requests_per_minute=1, tokens_per_minute=10, concurrent_calls=1))
    for _ in range(100):
        desk.limiter.cancel(desk.ask(10))


def test_a_block_that_ends_well_or_badly_is_settled_with_what_was_used() -> None:
    desk = Desk(Limits(tokens_per_minute=100))
    desk.run(50, used=30)
    with pytest.raises(KeyError):
        desk.run(50, used=20, error=KeyError())
    assert desk.refusal(51).used == 50


def test_a_block_that_was_refused_before_it_used_anything_counts_for_nothing() -> None:
    desk = Desk(Limits(requests_per_minute=2, tokens_per_minute=100))
    for _ in range(10):
        with pytest.raises(QueueFull):
            desk.run(50, used=0, error=QueueFull())
    with pytest.raises(QueueFull):
        desk.run(50, used=5, error=QueueFull())
    desk.ask(95)
    assert isinstance(desk.refusal(1), RequestLimitReached)


def test_a_new_table_holds_from_the_next_call_on_and_knows_the_last_minute() -> None:
    desk = Desk()
    grants = [desk.ask(10) for _ in range(5)]
    desk.limiter.table = LimitTable(key_default=Limits(requests_per_minute=5, concurrent_calls=9))
    assert desk.refusal().used == 5
    desk.limiter.table = LimitTable(key_default=Limits(concurrent_calls=5))
    assert desk.refusal().used == 5
    desk.end(grants[0], 1)
    desk.ask()


def test_what_was_admitted_before_a_restart_still_counts() -> None:
    desk = Desk(Limits(requests_per_minute=2, tokens_per_minute=100), model=Limits(requests_per_minute=3))
    desk.limiter.recall(ANNA.key_id, ["m", "m"], 60, age_s=50.0, now=desk.now)
    desk.limiter.recall(ANNA.key_id, ["m"], 20, age_s=-3.0, now=desk.now)  # the wall clock was set back
    assert desk.refusal(1).used == 2
    assert desk.refusal(1).retry_after_s == 11
    desk.ask(1, caller=BERT)
    assert desk.refusal(1, caller=BERT).scope == "Model 'm'"
    desk.now += 11
    assert desk.refusal(81).used == 20
    desk.ask(80)
    desk.now = 1060.5
    desk.ask(20)


def test_keys_that_have_gone_are_forgotten() -> None:
    desk = Desk()
    for number in range(200):
        desk.end(desk.ask(caller=Caller(100 + number, "x")), 3)
    desk.now += 61
    for _ in range(150):
        desk.end(desk.ask(), 3)
    assert len(desk.limiter._uses) == 2


Ask = tuple[float, int, int]


@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(1, 60), st.integers(0, 60)), max_size=40),
    st.integers(1, 5),
    st.integers(50, 120),
)
def test_no_minute_ever_holds_more_than_the_limit(asks: list[Ask], requests: int, tokens: int) -> None:
    desk = Desk(Limits(requests_per_minute=requests, tokens_per_minute=tokens))
    begun: list[tuple[float, int]] = []
    for gap, worst, used in asks:
        desk.now += gap
        try:
            grant = desk.ask(worst)
        except LimitReached as refusal:
            desk.now += refusal.retry_after_s or math.nan
            grant = desk.ask(worst)  # it frees when it said
        truth = min(used, worst)
        desk.end(grant, truth)
        begun.append((desk.now, truth))
    for end, _ in begun:
        minute = [truth for moment, truth in begun if end - 60 <= moment <= end]
        assert len(minute) <= requests
        assert sum(minute) <= max(tokens, *minute)  # the one call that is larger than the limit is alone
