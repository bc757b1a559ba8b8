"""Proves the ledger: every line by the chain, every sum by the lines; changes nothing and repairs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select

from dashbelle.metering.chain import START, Head, Line
from dashbelle.metering.posting import read_head
from dashbelle.metering.rollups import Counts, Group, Rollups
from dashbelle.metering.tables import open_calls, reservations, rollups, settlements
from dashbelle.store import Store

PAGE = 5000
"""Lines that are in memory at a time."""

_TABLES = {Line.RESERVATION: reservations, Line.SETTLEMENT: settlements}
_settled_calls = select(settlements, *reservations.c["key_id", "key_name", "model", "served_model"]).outerjoin_from(
    settlements, reservations, settlements.c.request_id == reservations.c.request_id
)


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong. `request_id` None: it is no call's, or nobody can tell whose."""

    what: str
    position: int | None = None
    line: Line | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. `head` is what to keep somewhere else as a witness of all lines until now."""

    lines: int
    head: Head
    fault: Fault | None


async def verify(
    store: Store, *, witness: Head | None = None, progress: Callable[[int, int], None] = lambda _done, _lines: None
) -> Verdict:
    """Check everything on one view of the ledger. Raises StoreUnavailable.

    `witness` is the head of an earlier time: the chain must lead through it. `progress` is told how many of how many
    lines are done, from another thread.
    """
    return await store.read(lambda connection: _Proof(connection, witness, progress).run())


class _Faulty(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


class _Proof:
    """One run."""

    def __init__(self, connection: Connection, witness: Head | None, progress: Callable[[int, int], None]) -> None:
        self._connection = connection
        self._witness = witness
        self._progress = progress
        self._head = START
        self._rollups = Rollups()
        self._lines = dict.fromkeys(Line, 0)

    def run(self) -> Verdict:
        """Stop at the first fault."""
        fault = None
        try:
            kept = self._kept_head()
            self._check_lines(kept)
            self._check_witness_is_there()
            self._check_open_calls()
            self._check_sums()
        except _Faulty as faulty:
            fault = faulty.fault
        return Verdict(sum(self._lines.values()), self._head, fault)

    def _kept_head(self) -> Head:
        head = read_head(self._connection)
        if head is None:
            raise _Faulty(Fault("the chain's head is gone"))
        return head

    def _check_lines(self, kept: Head) -> None:
        self._check_none("it was inserted before the first line", below=1)
        for line, row in self._rows(kept.position):
            self._check_line(line, row)
        if self._head.position < kept.position:
            what = f"the lines {self._head.position + 1} to {kept.position} at the end are gone"
            raise _Faulty(Fault(what, self._head.position + 1, *self._widowed()))
        if self._head.hash != kept.hash:
            raise _Faulty(Fault("the chain's head has another hash than the newest line", kept.position))
        self._check_none("it was inserted behind the chain's head", above=kept.position)

    def _check_none(self, what: str, *, below: int | None = None, above: int | None = None) -> None:
        """That no line has a place out there."""
        for line, table in _TABLES.items():
            outside = table.c.position < below if below is not None else table.c.position > above
            query = select(table.c.position, table.c.request_id).where(outside).order_by(table.c.position).limit(1)
            for row in self._connection.execute(query).mappings():
                raise _Faulty(_fault(what, line, dict(row)))

    def _rows(self, end: int) -> Iterator[tuple[Line, dict[str, Any]]]:
        """All lines in their order."""
        newest = max(self._connection.scalar(select(func.max(table.c.position))) or 0 for table in _TABLES.values())
        for start in range(0, min(end, newest), PAGE):
            rows: list[tuple[Line, dict[str, Any]]] = []
            for line, query in ((Line.RESERVATION, select(reservations)), (Line.SETTLEMENT, _settled_calls)):
                place = _TABLES[line].c.position
                page = query.where(place > start, place <= min(start + PAGE, end)).order_by(place)
                rows += [(line, dict(row)) for row in self._connection.execute(page).mappings()]
            yield from sorted(rows, key=lambda each: int(each[1]["position"]))
            self._progress(min(start + PAGE, end), end)

    def _check_line(self, line: Line, row: Mapping[str, Any]) -> None:
        expected = self._head.position + 1
        if row["position"] < expected:
            raise _Faulty(_fault("it was inserted: another line has its place", line, row))
        if row["position"] > expected:
            what = f"the lines {expected} to {row['position'] - 1} are gone"
            raise _Faulty(Fault(what, expected, *self._widowed()))
        head = self._head.next(line, row)
        if row["hash"] != head.hash:
            raise _Faulty(_fault("its content or the line before it is not what its hash was made of", line, row))
        if self._witness is not None and self._witness.position == expected and self._witness.hash != head.hash:
            raise _Faulty(_fault("its hash is not the witness's: the ledger was written anew", line, row))
        self._head = head
        self._lines[line] += 1
        if line is Line.SETTLEMENT:
            self._count(row)

    def _count(self, row: Mapping[str, Any]) -> None:
        if row["key_name"] is None:
            raise _Faulty(_fault("its reservation is gone", Line.SETTLEMENT, row))
        self._rollups.count(row, row)

    def _check_witness_is_there(self) -> None:
        if self._witness is not None and self._witness.position > self._head.position:
            what = f"the witness has seen {self._witness.position} lines: the last ones are gone"
            raise _Faulty(Fault(what, self._head.position + 1))

    def _check_open_calls(self) -> None:
        opened = self._connection.scalar(select(func.count()).select_from(open_calls)) or 0
        if self._lines[Line.RESERVATION] - self._lines[Line.SETTLEMENT] != opened:
            line, request_id = self._widowed()
            raise _Faulty(Fault("calls are open or settled that should not be", None, line, request_id))

    def _widowed(self) -> tuple[Line | None, str | None]:
        """A guess at what is gone: the settlement of a call that is not open, or the reservation of a settled one."""
        unsettled = (
            select(reservations.c.request_id)
            .outerjoin(settlements, settlements.c.request_id == reservations.c.request_id)
            .outerjoin(open_calls, open_calls.c.request_id == reservations.c.request_id)
            .where(settlements.c.request_id.is_(None), open_calls.c.request_id.is_(None))
            .order_by(reservations.c.position)
        )
        found = self._connection.scalar(unsettled.limit(1))
        if found is not None:
            return Line.SETTLEMENT, found
        unreserved = _settled_calls.where(reservations.c.request_id.is_(None)).order_by(settlements.c.position)
        row = self._connection.execute(unreserved.limit(1)).mappings().one_or_none()
        return (None, None) if row is None else (Line.RESERVATION, row["request_id"])

    def _check_sums(self) -> None:
        kept: dict[Group, Counts] = {}
        for row in self._connection.execute(select(rollups).order_by(*rollups.primary_key)).mappings():
            kept[_part(Group, row)] = _part(Counts, row)
        counted = self._rollups.counts
        for group in sorted(kept.keys() | counted.keys()):
            told, true = kept.get(group, Counts()), counted.get(group, Counts())
            if told != true:
                what = f"the sum of {_words(group)} is kept as {_figures(told)}; the lines say {_figures(true)}"
                raise _Faulty(Fault(what))


def _part(kind: Any, row: RowMapping) -> Any:  # noqa: ANN401 - a NamedTuple and its type
    return kind(*(row[name] for name in kind._fields))


def _fault(what: str, line: Line, row: Mapping[str, Any]) -> Fault:
    return Fault(what, row["position"], line, row["request_id"])


def _words(group: Group) -> str:
    served = "" if group.model == group.served_model else f" served by {group.served_model}"
    return f"{group.span}, key {group.key_name}, model {group.model}{served}, {group.end_reason}"


def _figures(counts: Counts) -> str:
    return f"{counts.calls} calls, {counts.input_tokens} + {counts.output_tokens} tokens"
