"""Sums of settlements: kept in the transaction that settles, and read by reports instead of the settlements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Insert, Select, Text, case, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from dashbelle.metering.tables import reservations, rollups, settlements


class By(StrEnum):
    """What sums are grouped by."""

    DAY = "day"
    KEY = "key"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Sum:
    """What the settled calls of one group used. `group` is a UTC day (2026-01-31), a key's or a model's name."""

    group: str
    calls: int
    input_tokens: int
    output_tokens: int


class Unit(StrEnum):
    """How long the spans are that rollups sum up."""

    DAY = "day"
    HOUR = "hour"


class Group(NamedTuple):
    """What a rollup is the sum of; the primary key of its row. `span` is a UTC day or hour: 2026-01-31T07."""

    unit: str
    span: str
    key_id: int
    key_name: str
    model: str
    served_model: str
    end_reason: str


class Counts(NamedTuple):
    """A sum."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*map(sum, zip(self, other, strict=True)))


class Rollups:
    """Sums in the making."""

    def __init__(self) -> None:
        self.counts: dict[Group, Counts] = {}

    def count(self, call: Mapping[str, Any], settlement: Mapping[str, Any]) -> None:
        """Add the settlement of a call; `call` has the names of its reservation. Both by the names of their columns."""
        counts = Counts(1, settlement["input_tokens"], settlement["output_tokens"])
        names = (call["key_id"], call["key_name"], call["model"], call["served_model"], str(settlement["end_reason"]))
        for unit in Unit:
            group = Group(unit.value, span_of(unit, settlement["ended_at"]), *names)
            self.counts[group] = self.counts.get(group, Counts()).plus(counts)

    def write(self, connection: Connection) -> None:
        """Add them to what the database has."""
        rows = [{**group._asdict(), **counts._asdict()} for group, counts in self.counts.items()]
        connection.execute(_add[connection.dialect.name], rows)


def span_of(unit: Unit, moment: datetime) -> str:
    """The UTC day or hour that it is in."""
    return moment.astimezone(UTC).strftime(_SPANS[unit])


_SPANS = {Unit.DAY: "%Y-%m-%d", Unit.HOUR: "%Y-%m-%dT%H"}


def _adding(insert: Callable[..., Any]) -> Insert:
    statement = insert(rollups)
    more = {name: rollups.c[name] + statement.excluded[name] for name in Counts._fields}
    added: Insert = statement.on_conflict_do_update(index_elements=list(Group._fields), set_=more)
    return added


_add = {"sqlite": _adding(sqlite.insert), "postgresql": _adding(postgresql.insert)}


def sums(connection: Connection, by: By, since: datetime | None, until: datetime | None) -> list[Sum]:
    """What the settled calls of `since <= ended_at < until` used, in the groups' order.

    Whole days and whole hours come from the rollups; what is left at both ends, less than an hour, from settlements.
    """
    total: dict[str, Counts] = {}
    for query in queries(by, since, until):
        for group, *counts in connection.execute(query):
            total[group] = total.get(group, Counts()).plus(Counts(*map(int, counts)))
    return [Sum(group, *counts) for group, counts in sorted(total.items())]


def queries(by: By, since: datetime | None, until: datetime | None) -> list[Select[Any]]:
    """What `sums` asks: each query has a group and its three counts."""
    first, last = _from(Unit.DAY, since), _until(Unit.DAY, until)
    if since is not None and until is not None and first is not None and last is not None and first > last:
        return _within_day(by, since, until)
    parts = [_rolled_up(by, Unit.DAY, first, last)]
    if since is not None and first is not None:
        parts += _within_day(by, since, first)
    if until is not None and last is not None:
        parts += _within_day(by, last, until)
    return parts


def _within_day(by: By, since: datetime, until: datetime) -> list[Select[Any]]:
    if since == until:
        return []
    first, last = _from(Unit.HOUR, since), _until(Unit.HOUR, until)
    if first is None or last is None or first > last:
        return [_settled(by, since, until)]
    parts = [_rolled_up(by, Unit.HOUR, first, last)] if first < last else []
    ends = [(since, first), (last, until)]
    return parts + [_settled(by, start, end) for start, end in ends if start < end]


def _until(unit: Unit, moment: datetime | None) -> datetime | None:
    """The last beginning of a day or hour that is not after."""
    start = moment and moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return start and (start.replace(hour=0) if unit is Unit.DAY else start)


def _from(unit: Unit, moment: datetime | None) -> datetime | None:
    """The first one that is not before."""
    start = _until(unit, moment)
    return start if start is None or start == moment else start + _LENGTHS[unit]


_LENGTHS = {Unit.DAY: timedelta(days=1), Unit.HOUR: timedelta(hours=1)}


def _rolled_up(by: By, unit: Unit, first: datetime | None, last: datetime | None) -> Select[Any]:
    group = _group(by, rollups, func.substr(rollups.c.span, 1, 10, type_=Text))
    columns: list[ColumnElement[Any]] = [group, *(func.sum(rollups.c[name]) for name in Counts._fields)]
    query = select(*columns).where(rollups.c.unit == unit.value).group_by(group)
    if first is not None:
        query = query.where(rollups.c.span >= span_of(unit, first))
    return query if last is None else query.where(rollups.c.span < span_of(unit, last))


def _settled(by: By, start: datetime, end: datetime) -> Select[Any]:
    group = _group(by, reservations, literal(span_of(Unit.DAY, start)))
    tokens = (func.sum(settlements.c.input_tokens), func.sum(settlements.c.output_tokens))
    columns: list[ColumnElement[Any]] = [group, func.count(), *tokens]
    query = select(*columns).join_from(settlements, reservations).group_by(group)
    return query.where(settlements.c.ended_at >= start, settlements.c.ended_at < end)


def _group(by: By, names: FromClause, day: ColumnElement[str]) -> ColumnElement[str]:
    if by is By.DAY:
        return day
    if by is By.KEY:
        return names.c.key_name
    # A stand-in's tokens are never shown as the tokens of the model that was asked for.
    served_by = names.c.model + " (served by " + names.c.served_model + ")"
    return case((names.c.model == names.c.served_model, names.c.model), else_=served_by)
