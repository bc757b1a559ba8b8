"""Limits and prices as people set them: stored, listed, and handed out as snapshots; enforces none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, column, delete, insert, null, select, table, update

from dashbelle.metering.budgets import Balance, Price, period_name
from dashbelle.metering.tables import limits, prices, spending
from dashbelle.store import Store
from dashbelle.vocabulary import BudgetPeriod, Limit, LimitKind, LimitScope

REMEMBERED_S = 0.5
"""How old a snapshot may be, and so how late another process's change may take effect."""
HIGHEST = 2**53
"""Amounts are exact in every JSON reader."""
HIGHEST_PRICE = 2**31
"""Billionths per token: what the longest prompt costs still fits into a column."""
BUDGETS = frozenset({LimitKind.TOKENS, LimitKind.MONEY})

_keys = table("keys", column("id"), column("name"), column("revoked_at"))
_live_key = (limits.c.scope == LimitScope.KEY.value) & (_keys.c.name == limits.c.name) & _keys.c.revoked_at.is_(null())
_columns = (*limits.c["scope", "name", "kind", "amount", "period"], limits.c.id.label("limit_id"))
_all = (
    select(*_columns, _keys.c.id.label("key_id"))
    .outerjoin_from(limits, _keys, _live_key)
    .order_by(limits.c.scope, limits.c.name, limits.c.kind, limits.c.period)
)


class BadLimit(ValueError):
    """A limit or a price that makes no sense. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a budget one key or model has used up in the period that is now."""

    name: str
    balance: Balance


class Limits:
    """The limits and prices of one database. Raises StoreUnavailable."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._snapshot: tuple[Limit, ...] = ()
        self._fresh_until: float | None = None

    async def in_force(self) -> tuple[Limit, ...]:
        """Every limit, budgets too, as of at most REMEMBERED_S ago."""
        asked_at = self._clock()
        if self._fresh_until is None or asked_at >= self._fresh_until:
            self._snapshot = await self._store.read(_read)
            self._fresh_until = asked_at + REMEMBERED_S
        return self._snapshot

    async def set(self, limit: Limit) -> None:
        """Put it in force, in the place of one of the same subject, kind and period. Raises BadLimit.

        A budget counts from when it is first set; a new amount keeps what was spent.
        """
        _check(limit)
        await self._store.transact(lambda connection: _set(connection, limit))
        self._fresh_until = None

    async def remove(
        self, scope: LimitScope, name: str | None, kind: LimitKind | None = None, period: BudgetPeriod | None = None
    ) -> int:
        """Lift the limits of a subject, all or those of a kind or period; how many there were."""
        statement = delete(limits).where(limits.c.scope == scope.value, limits.c.name == (name or ""))
        if kind is not None:
            statement = statement.where(limits.c.kind == kind.value)
        if period is not None:
            statement = statement.where(limits.c.period == period.value)
        removed = await self._store.transact(lambda connection: connection.execute(statement).rowcount)
        self._fresh_until = None
        return removed

    async def standings(self) -> list[tuple[Limit, list[Standing]]]:
        """Every limit, and for a budget who used how much of it in the period that is now."""
        return await self._store.read(lambda connection: _standings(connection, self._now()))

    async def set_price(self, model: str, price: Price) -> None:
        """What the tokens of a model cost in budgets of money, from the next reservation on. Raises BadLimit."""
        if min(price.input, price.output) < 0 or max(price.input, price.output) > HIGHEST_PRICE:
            raise BadLimit(f"a price is from 0 to {HIGHEST_PRICE / 1000:.0f} per million tokens")
        await self._store.transact(lambda connection: _set_price(connection, model, price))

    async def remove_price(self, model: str) -> bool:
        """Make a model free of charge again; whether it had a price."""
        statement = delete(prices).where(prices.c.model == model)
        return await self._store.transact(lambda connection: connection.execute(statement).rowcount == 1)

    async def prices(self) -> dict[str, Price]:
        """By model."""
        query = select(prices).order_by(prices.c.model)
        return await self._store.read(
            lambda connection: {
                row.model: Price(row.input_price, row.output_price) for row in connection.execute(query)
            }
        )


def _read(connection: Connection) -> tuple[Limit, ...]:
    return tuple(map(_limit, connection.execute(_all)))


def _limit(row: Row[*tuple[Any, ...]]) -> Limit:
    return Limit(
        scope=LimitScope(row.scope),
        name=row.name or None,
        kind=LimitKind(row.kind),
        amount=row.amount,
        period=BudgetPeriod(row.period) if row.period else None,
        key_id=row.key_id,
    )


def _check(limit: Limit) -> None:
    if not 0 <= limit.amount <= HIGHEST:
        raise BadLimit(f"a limit is from 0 to {HIGHEST}, not {limit.amount}")
    if (limit.period is not None) != (limit.kind in BUDGETS):
        raise BadLimit("a budget of tokens or money has a period, and no other limit has one")
    if limit.kind is LimitKind.SHARE and (limit.scope is not LimitScope.KEY or limit.amount == 0):
        raise BadLimit("a share is above 0 and belongs to a key")


def _set(connection: Connection, limit: Limit) -> None:
    subject = {
        "scope": limit.scope.value,
        "name": limit.name or "",
        "kind": limit.kind.value,
        "period": "" if limit.period is None else limit.period.value,
    }
    same = [limits.c[name] == value for name, value in subject.items()]
    if connection.execute(update(limits).where(*same).values(amount=limit.amount)).rowcount == 0:
        connection.execute(insert(limits), {**subject, "amount": limit.amount})


def _set_price(connection: Connection, model: str, price: Price) -> None:
    values = {"input_price": price.input, "output_price": price.output}
    if connection.execute(update(prices).where(prices.c.model == model).values(values)).rowcount == 0:
        connection.execute(insert(prices), {"model": model, **values})


def _standings(connection: Connection, now: datetime) -> list[tuple[Limit, list[Standing]]]:
    names = [period_name(period, now) for period in BudgetPeriod]
    query = select(spending).where(spending.c.period_name.in_(names)).order_by(spending.c.name)
    used: dict[int, list[Standing]] = {}
    for row in connection.execute(query):
        used.setdefault(row.limit_id, []).append(Standing(row.name, Balance(row.spent, row.reserved)))
    return [(_limit(row), used.get(row.limit_id, [])) for row in connection.execute(_all)]
