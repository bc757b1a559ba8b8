"""Writes lines into the ledger, many in one transaction: chained, summed up, and charged to budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from dashbelle.errors import BudgetUsedUp
from dashbelle.metering import holds
from dashbelle.metering.chain import FIELDS, Head, Line
from dashbelle.metering.lines import Reservation, Settlement
from dashbelle.metering.rollups import Rollups
from dashbelle.metering.tables import chain_head, open_calls, reservations, settlements
from dashbelle.store import StoreUnavailable

_head = select(chain_head.c.position, chain_head.c.hash).where(chain_head.c.id == 1)
# In one question, because each one to Postgres takes its time.
_start = _head.add_columns(holds.any_budgets.label("any_budgets"), holds.any_holds.label("any_holds"))
_move_head = update(chain_head).where(chain_head.c.id == 1)
_calls = (
    select(
        *reservations.c["request_id", "key_id", "key_name", "model", "served_model"],
        settlements.c.request_id.is_not(None).label("settled"),
    )
    .outerjoin_from(reservations, settlements, reservations.c.request_id == settlements.c.request_id)
    .where(reservations.c.request_id.in_(bindparam("ids", expanding=True)))
)
_insert = {Line.RESERVATION: insert(reservations), Line.SETTLEMENT: insert(settlements)}
_open = insert(open_calls)
_close = delete(open_calls).where(open_calls.c.request_id.in_(bindparam("ids", expanding=True)))


class UnknownCall(Exception):
    """A settlement of a call that was never reserved; its text is the request id."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A reservation, and the session of the store in which its call runs."""

    reservation: Reservation
    session: int


Entry = Opening | Settlement


def post(connection: Connection, entries: Sequence[Entry]) -> list[bool | Exception]:
    """Write the entries' lines in their order. True: written; False: the call was settled before, and that stands.

    Outcomes without a line: BudgetUsedUp, UnknownCall. Raises IntegrityError if a call is reserved twice.
    """
    page = _Page(connection, [entry.request_id for entry in entries if isinstance(entry, Settlement)])
    page.admit([entry.reservation for entry in entries if isinstance(entry, Opening)])
    outcomes = [page.add(entry) for entry in entries]
    page.write()
    return outcomes


def read_head(connection: Connection) -> Head | None:
    """The chain's head; None if somebody took it away."""
    row = connection.execute(_head).one_or_none()
    return None if row is None else Head(row.position, row.hash)


class _Page:
    """The lines of one transaction."""

    def __init__(self, connection: Connection, settling: Sequence[str]) -> None:
        self._connection = connection
        self._calls = _known_calls(connection, settling)
        self._rows: dict[Line, list[dict[str, Any]]] = {line: [] for line in Line}
        self._opened: list[dict[str, Any]] = []
        self._settled: list[Settlement] = []
        self._refused: dict[int, BudgetUsedUp] = {}
        self._rollups = Rollups()
        start = connection.execute(_start).one_or_none()
        if start is None:
            raise StoreUnavailable(
                "the head of the ledger's chain is gone: see dashbelle usage verify, restore a backup"
            )
        self._head = Head(start.position, start.hash)
        self._any_budgets, self._any_holds = bool(start.any_budgets), bool(start.any_holds)

    def admit(self, calls: Sequence[Reservation]) -> None:
        """Take what these calls may cost from their budgets; `add` refuses those that do not fit."""
        if self._any_budgets and calls:
            budgets = holds.budgets_in_force(self._connection)
            refusals = holds.take(self._connection, budgets, calls)
            self._refused = {id(call): why for call, why in zip(calls, refusals, strict=True) if why is not None}

    def add(self, entry: Entry) -> bool | Exception:
        """Put one line on the page, unless there is a reason not to."""
        if isinstance(entry, Opening):
            return self._reserve(entry)
        return self._settle(entry)

    def _reserve(self, opening: Opening) -> bool | Exception:
        refusal = self._refused.get(id(opening.reservation))  # its request id may not be unique
        if refusal is not None:
            return refusal
        self._chain(Line.RESERVATION, opening.reservation)
        self._opened.append({"request_id": opening.reservation.request_id, "session": opening.session})
        return True

    def _settle(self, settlement: Settlement) -> bool | Exception:
        if settlement.request_id not in self._calls:
            return UnknownCall(settlement.request_id)
        call = self._calls[settlement.request_id]
        if call is None:
            return False
        self._calls[settlement.request_id] = None
        self._rollups.count(call, self._chain(Line.SETTLEMENT, settlement))
        self._settled.append(settlement)
        return True

    def _chain(self, line: Line, source: Reservation | Settlement) -> dict[str, Any]:
        values = {name: getattr(source, name) for name in FIELDS[line]}
        self._head = self._head.next(line, values)
        self._rows[line].append({**values, "position": self._head.position, "hash": self._head.hash})
        return values

    def write(self) -> None:
        """Send the page to the database."""
        for line, rows in self._rows.items():
            if rows:
                self._connection.execute(_insert[line], rows)
        if self._opened:
            self._connection.execute(_open, self._opened)
        if self._settled:
            self._connection.execute(_close, {"ids": [settlement.request_id for settlement in self._settled]})
            if self._any_holds:
                holds.settle(self._connection, self._settled)
            self._rollups.write(self._connection)
        if self._opened or self._settled:
            self._connection.execute(_move_head, {"position": self._head.position, "hash": self._head.hash})


def _known_calls(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, Any] | None]:
    """The reserved calls among these; None for one that is settled."""
    if not ids:
        return {}
    rows = connection.execute(_calls, {"ids": ids}).mappings()
    return {row["request_id"]: None if row["settled"] else dict(row) for row in rows}
