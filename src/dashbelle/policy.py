"""Keeps the limiter true to the database: limits as people set them, and what the minute before a start has used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import structlog
from structlog.typing import FilteringBoundLogger

from dashbelle.admission.limits import Limiter, LimitTable
from dashbelle.admission.limits import Limits as Bounds
from dashbelle.metering.ledger import Ledger
from dashbelle.metering.limits import REMEMBERED_S, Limits
from dashbelle.store import StoreUnavailable
from dashbelle.vocabulary import HUNDREDTHS, Limit, LimitKind, LimitScope

WINDOW = timedelta(seconds=61)
"""A little more than the minute that limits speak of."""
_FIELDS = {
    LimitKind.REQUESTS_PER_MINUTE: "requests_per_minute",
    LimitKind.TOKENS_PER_MINUTE: "tokens_per_minute",
    LimitKind.CONCURRENT_CALLS: "concurrent_calls",
}
log: FilteringBoundLogger = structlog.get_logger("dashbelle.policy")


def table_of(limits: Iterable[Limit]) -> LimitTable:
    """The limiter's form of the limits in force; budgets are the ledger's, and keys that are no more have none.

    A limit of one key stands instead of the default of its kind; the defaults of other kinds still hold for it.
    """
    given: dict[LimitScope, dict[int | str | None, dict[str, int]]] = {scope: {None: {}} for scope in LimitScope}
    shares = {}
    for limit in limits:
        subject = limit.key_id if limit.scope is LimitScope.KEY else limit.name
        if limit.name is not None and subject is None:
            continue
        if limit.kind in _FIELDS:
            given[limit.scope].setdefault(subject, {})[_FIELDS[limit.kind]] = limit.amount
        elif limit.kind is LimitKind.SHARE and limit.key_id is not None:
            shares[limit.key_id] = limit.amount / HUNDREDTHS
    keys, models = (_with_defaults(given[scope]) for scope in (LimitScope.KEY, LimitScope.MODEL))
    return LimitTable(
        keys={int(subject): bounds for subject, bounds in keys.items() if subject is not None},
        models={str(subject): bounds for subject, bounds in models.items() if subject is not None},
        key_default=keys[None],
        model_default=models[None],
        shares=shares,
    )


def _with_defaults(given: Mapping[int | str | None, dict[str, int]]) -> dict[int | str | None, Bounds]:
    return {subject: Bounds(**{**given[None], **bounds}) for subject, bounds in given.items()}


async def recall(ledger: Ledger, limiter: Limiter) -> None:
    """Count what was admitted in the minute before this start. Raises StoreUnavailable."""
    now, clock = datetime.now(UTC), asyncio.get_running_loop().time()
    for call in await ledger.admitted_since(now - WINDOW):
        age_s = (now - call.started_at).total_seconds()
        limiter.recall(call.key_id, (call.model, call.served_model), call.tokens, age_s, clock)


async def keep_in_force(limits: Limits, limiter: Limiter) -> None:
    """Hand every change of the limits to the limiter, for ever. While the database is away the last ones hold."""
    before: tuple[Limit, ...] | None = None
    while True:
        try:
            now = await limits.in_force()
        except StoreUnavailable as error:
            log.warning("limits.unread", reason=str(error))
        else:
            if now is not before:
                limiter.table, before = table_of(now), now
        await asyncio.sleep(REMEMBERED_S)
