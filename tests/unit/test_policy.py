"""The policy: limits as stored become limits in force, changes arrive, and a start remembers the last minute."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dashbelle import policy
from dashbelle.admission.limits import Limiter
from dashbelle.admission.limits import Limits as Bounds
from dashbelle.errors import RequestLimitReached, TokenLimitReached
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.metering.limits import Limits
from dashbelle.store import Store
from dashbelle.vocabulary import BudgetPeriod, Caller, EndReason, Limit, LimitKind, LimitScope

KEY, MODEL = LimitScope.KEY, LimitScope.MODEL
RPM, TPM, SHARE = LimitKind.REQUESTS_PER_MINUTE, LimitKind.TOKENS_PER_MINUTE, LimitKind.SHARE


def test_a_limit_of_a_key_stands_instead_of_the_default_of_its_kind_only() -> None:
    table = policy.table_of(
        [
            Limit(KEY, None, RPM, 10),
            Limit(KEY, None, TPM, 1000),
            Limit(KEY, "ann", RPM, 20, key_id=7),
            Limit(MODEL, "m", RPM, 30),
        ]
    )
    assert table.key_default == Bounds(requests_per_minute=10, tokens_per_minute=1000)
    assert table.of(("key", 7)) == Bounds(requests_per_minute=20, tokens_per_minute=1000)
    assert table.of(("model", "m")) == Bounds(requests_per_minute=30)
    assert table.of(("model", "other")) == Bounds()


def test_budgets_and_limits_of_keys_that_are_no_more_are_left_out() -> None:
    table = policy.table_of(
        [Limit(KEY, "gone", RPM, 1), Limit(KEY, "ann", LimitKind.TOKENS, 5, BudgetPeriod.DAY, key_id=7)]
    )
    assert table.keys == {}
    assert table.key_default == Bounds()


def test_shares_are_hundredths() -> None:
    table = policy.table_of([Limit(KEY, "ann", SHARE, 250, key_id=7)])
    assert (table.share_of(7), table.share_of(8)) == (2.5, 1.0)


async def test_a_changed_limit_is_in_force_within_a_second(tmp_path: Path) -> None:
    async with Store.open(f"sqlite:///{tmp_path / 'db'}") as store:
        limiter = Limiter()
        keeper = asyncio.create_task(policy.keep_in_force(Limits(store), limiter))
        await Limits(store).set(Limit(MODEL, "m", RPM, 3))
        async with asyncio.timeout(5):
            while limiter.table.of(("model", "m")) != Bounds(requests_per_minute=3):
                await asyncio.sleep(0)
        keeper.cancel()


async def test_a_start_remembers_what_the_last_minute_admitted(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    async with Store.open(f"sqlite:///{tmp_path / 'db'}") as store:
        ledger = Ledger(store)
        for number, (age_s, reason) in enumerate(
            [(600, EndReason.STOP), (30, EndReason.STOP), (20, EndReason.CRASHED)]
        ):
            at = now - timedelta(seconds=age_s)
            await ledger.reserve(Reservation(f"id-{number}", 7, "ann", None, "belle", "m", 10, 90, at))
            await ledger.settle(Settlement(f"id-{number}", 10, 5, reason, 0.0, None, at))
        recalled = await ledger.admitted_since(now - policy.WINDOW)
        assert [(call.key_id, call.tokens) for call in recalled] == [(7, 15), (7, 100)]
        limiter = Limiter()
        await policy.recall(ledger, limiter)
    clock = asyncio.get_running_loop().time()
    limiter.table = policy.table_of([Limit(KEY, "ann", RPM, 2, key_id=7)])
    with pytest.raises(RequestLimitReached):
        limiter.admit(Caller(7, "ann"), ("m",), 1, clock)
    limiter.table = policy.table_of([Limit(MODEL, "m", TPM, 116)])
    limiter.admit(Caller(8, "bob"), ("m",), 1, clock)
    with pytest.raises(TokenLimitReached):
        limiter.admit(Caller(8, "bob"), ("m",), 1, clock)
