"""The ledger: one reservation before and one settlement after each call; lines are added, never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, literal, select, tuple_

from dashbelle.metering.lines import Reservation, Settlement
from dashbelle.metering.posting import Entry, Opening, UnknownCall, post
from dashbelle.metering.rollups import By, Sum, sums
from dashbelle.metering.tables import metadata, open_calls, reservations, settlements
from dashbelle.store import Store, StoreUnavailable, UtcTime
from dashbelle.vocabulary import EndReason, Receipt

__all__ = ["Admitted", "By", "Ledger", "Reservation", "Settlement", "Sum", "UnknownCall", "metadata"]

CHUNK = 1000
"""Receipts that one read fetches."""

RECALLED = 20_000
"""Calls that a start looks back on at most: more than one server admits in a minute."""

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
_admitted = (
    select(
        reservations.c.key_id,
        reservations.c.model,
        reservations.c.served_model,
        reservations.c.started_at,
        (reservations.c.input_tokens + reservations.c.max_output_tokens).label("at_most"),
        (settlements.c.input_tokens + settlements.c.output_tokens).label("used"),
        settlements.c.end_reason,
    )
    .join_from(reservations, settlements, isouter=True)
    .order_by(reservations.c.position.desc())
    .limit(RECALLED)
)
_order = (settlements.c.ended_at, settlements.c.request_id)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call of the near past, and the tokens that it took, or may have taken if nobody knows."""

    key_id: int
    model: str
    served_model: str
    tokens: int
    started_at: datetime


class Ledger:
    """Periods are `since <= ended_at < until`: a call belongs to the day on which it ended, so a past day is final.

    Every method raises StoreUnavailable.
    """

    def __init__(self, store: Store, *, chunk: int = CHUNK) -> None:
        self._store = store
        self._chunk = chunk
        self._doubtful: list[Reservation] = []

    async def reserve(self, reservation: Reservation) -> None:
        """Write it, and take what the call may cost at most from its budgets; durable once this returns.

        Raises BudgetUsedUp, IntegrityError for a call that is reserved already.
        """
        await self._void_doubtful()
        try:
            await self._post(Opening(reservation, self._store.session))
        except StoreUnavailable:
            self._doubtful.append(reservation)
            raise

    async def settle(self, settlement: Settlement) -> bool:
        """Write it; durable once this returns. False: this call was settled before, and the first one stands.

        Raises UnknownCall.
        """
        return await self._post(settlement)

    async def settle_crashed(self, now: datetime) -> int:
        """Settle as `crashed`, with nothing delivered, what dead processes left open; how many.

        Who is dead, the store says: on Postgres whose session has gone, on SQLite everybody else. So on SQLite this is
        for the start of the only server.
        """

        def work(connection: Connection) -> int:
            dead = select(open_calls.c.request_id).where(open_calls.c.session.not_in(self._store.living(connection)))
            ids = connection.scalars(dead.order_by(open_calls.c.request_id).limit(self._chunk)).all()
            post(connection, [_nothing(request_id, EndReason.CRASHED, now) for request_id in ids])
            return len(ids)

        settled = more = await self._store.transact(work)
        while more == self._chunk:
            settled += (more := await self._store.transact(work))
        return settled

    async def admitted_since(self, since: datetime) -> list[Admitted]:
        """The calls that began then or later, oldest first; at most the newest RECALLED."""
        rows = await self._store.read(lambda connection: connection.execute(_admitted).all())
        calls = [
            Admitted(
                key_id=row.key_id,
                model=row.model,
                served_model=row.served_model,
                tokens=row.at_most if row.end_reason in {None, EndReason.CRASHED} else row.used,
                started_at=row.started_at,
            )
            for row in reversed(rows)
        ]
        return [call for call in calls if call.started_at >= since]

    async def receipt(self, request_id: str, key_id: int) -> Receipt | None:
        """Of one settled call; None if there is none under this key."""
        one = _receipts.where(reservations.c.request_id == request_id, reservations.c.key_id == key_id)
        found = await self._fetch(one)
        return found[0] if found else None

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
        return await self._store.read(lambda connection: sums(connection, by, since, until))

    async def _post(self, entry: Entry) -> bool:
        return await self._store.post(post, entry)

    async def _void_doubtful(self) -> None:
        """Settle, with nothing used, what was refused to its caller but may have been written all the same.

        That is so when a connection breaks after COMMIT was sent and before the answer came.
        """
        while self._doubtful:
            doubtful = self._doubtful[-1]
            with suppress(UnknownCall):
                await self._post(_nothing(doubtful.request_id, EndReason.ERROR, doubtful.started_at))
            self._doubtful = [other for other in self._doubtful if other is not doubtful]

    async def _fetch(self, query: Select[Any]) -> list[Receipt]:
        def work(connection: Connection) -> list[Receipt]:
            return [_receipt(row) for row in connection.execute(query).mappings()]

        return await self._store.read(work)


def _nothing(request_id: str, reason: EndReason, at: datetime) -> Settlement:
    """Of a call that delivered nothing."""
    return Settlement(request_id, 0, 0, reason, 0.0, None, at)


def _receipt(row: RowMapping) -> Receipt:
    return Receipt(**{**row, "end_reason": EndReason(row["end_reason"])})


def _period(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    from_since = [] if since is None else [settlements.c.ended_at >= since]
    to_until = [] if until is None else [settlements.c.ended_at < until]
    return from_since + to_until
