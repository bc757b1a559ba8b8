"""The ledger: one reservation before and one settlement after each call; lines are added, never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    RowMapping,
    Select,
    Table,
    Text,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    tuple_,
)
from sqlalchemy.dialects import sqlite

from dashbelle.store import Store, UtcTime
from dashbelle.vocabulary import EndReason, Receipt

CHUNK = 1000
"""Receipts that one read fetches."""


class By(StrEnum):
    """What sums are grouped by."""

    DAY = "day"
    KEY = "key"
    MODEL = "model"


metadata = MetaData()
reservations = Table(
    "reservations",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("key_id", Integer, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("workspace", Text),
    Column("model", Text, nullable=False),
    Column("served_model", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("max_output_tokens", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
)
settlements = Table(
    "settlements",
    metadata,
    Column("request_id", Text, ForeignKey("reservations.request_id"), primary_key=True),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("end_reason", Text, nullable=False),
    Column("queue_s", Float, nullable=False),
    Column("first_token_s", Float),
    Column("ended_at", UtcTime, nullable=False),
    Index("settlements_ended_at", "ended_at", "request_id"),
)

_reserve = insert(reservations)
_settle = sqlite.insert(settlements).on_conflict_do_nothing(index_elements=["request_id"])
_receipts = select(
    reservations.c.request_id,
    reservations.c.key_name.label("key"),
    reservations.c.model,
    reservations.c.served_model,
    settlements.c.input_tokens,
    settlements.c.output_tokens,
    settlements.c.end_reason,
    reservations.c.started_at,
    settlements.c.ended_at,
).join_from(settlements, reservations)
_order = (settlements.c.ended_at, settlements.c.request_id)
_groups: dict[By, ColumnElement[str]] = {
    By.DAY: func.date(settlements.c.ended_at, type_=Text),
    By.KEY: reservations.c.key_name,
    # A stand-in's tokens are never shown as the tokens of the model that was asked for.
    By.MODEL: case(
        (reservations.c.model == reservations.c.served_model, reservations.c.model),
        else_=reservations.c.model + " (served by " + reservations.c.served_model + ")",
    ),
}


@dataclass(frozen=True, slots=True)
class Reservation:
    """The line written before a call computes anything. `started_at` is aware."""

    request_id: str
    key_id: int
    key_name: str
    workspace: str | None
    model: str
    served_model: str
    input_tokens: int
    max_output_tokens: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """The line that ends a call. `first_token_s` counts from the call's start; None: there was no token."""

    request_id: str
    input_tokens: int
    output_tokens: int
    end_reason: EndReason
    queue_s: float
    first_token_s: float | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Sum:
    """What the settled calls of one group used. `group` is a UTC day (2026-01-31), a key's or a model's name."""

    group: str
    calls: int
    input_tokens: int
    output_tokens: int


class Ledger:
    """Periods are `since <= ended_at < until`: a call belongs to the day on which it ended, so a past day is final.

    Every method raises StoreUnavailable.
    """

    def __init__(self, store: Store, *, chunk: int = CHUNK) -> None:
        self._store = store
        self._chunk = chunk

    async def reserve(self, reservation: Reservation) -> None:
        """Write it; durable once this returns."""
        row = asdict(reservation)
        await self._store.transact(lambda connection: connection.execute(_reserve, row).close())

    async def settle(self, settlement: Settlement) -> bool:
        """Write it; durable once this returns. False: this call was settled before, and the first one stands."""
        row = asdict(settlement)
        return await self._store.transact(lambda connection: connection.execute(_settle, row).rowcount == 1)

    async def settle_crashed(self, now: datetime) -> int:
        """Settle as `crashed`, with nothing delivered, what a dead process left open; how many.

        Only for start-up: it cannot tell a dead process's calls from a living one's.
        """
        settled = exists().where(settlements.c.request_id == reservations.c.request_id)
        crashed = insert(settlements).from_select(
            [column.name for column in settlements.c],
            select(
                reservations.c.request_id,
                literal(0),
                literal(0),
                literal(EndReason.CRASHED.value),
                literal(0.0),
                null(),
                literal(now, UtcTime),
            ).where(~settled),
        )
        return await self._store.transact(lambda connection: connection.execute(crashed).rowcount)

    async def receipts(self, since: datetime | None = None, until: datetime | None = None) -> AsyncIterator[Receipt]:
        """Every settled call of the period, oldest end first, fetched in chunks."""
        query = _receipts.where(*_period(since, until)).order_by(*_order).limit(self._chunk)
        chunk = await self._fetch(query)
        while chunk:
            for receipt in chunk:
                yield receipt
            if len(chunk) < self._chunk:
                return
            last = chunk[-1]
            behind = tuple_(*_order) > tuple_(literal(last.ended_at, UtcTime), literal(last.request_id))
            chunk = await self._fetch(query.where(behind))

    async def newest(self, limit: int, since: datetime | None = None, until: datetime | None = None) -> list[Receipt]:
        """The last `limit` settled calls of the period, newest end first."""
        latest_first = [column.desc() for column in _order]
        return await self._fetch(_receipts.where(*_period(since, until)).order_by(*latest_first).limit(limit))

    async def sums(self, by: By, since: datetime | None = None, until: datetime | None = None) -> list[Sum]:
        """What the period's settled calls used, by group, in the groups' order."""
        group = _groups[by]
        totals = (func.count(), func.sum(settlements.c.input_tokens), func.sum(settlements.c.output_tokens))
        query = select(group, *totals).join_from(settlements, reservations).where(*_period(since, until))
        grouped = query.group_by(group).order_by(group)
        return await self._store.read(lambda connection: [Sum(*row) for row in connection.execute(grouped)])

    async def _fetch(self, query: Select[Any]) -> list[Receipt]:
        def work(connection: Connection) -> list[Receipt]:
            return [_receipt(row) for row in connection.execute(query).mappings()]

        return await self._store.read(work)


def _receipt(row: RowMapping) -> Receipt:
    return Receipt(**{**row, "end_reason": EndReason(row["end_reason"])})


def _period(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    from_since = [] if since is None else [settlements.c.ended_at >= since]
    to_until = [] if until is None else [settlements.c.ended_at < until]
    return from_since + to_until
