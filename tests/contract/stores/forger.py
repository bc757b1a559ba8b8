"""Somebody who may write to the database, and does so behind the program's back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import create_engine, event, make_url, text

from dashbelle.metering.chain import FIELDS, START, Line
from dashbelle.metering.tables import chain_head, reservations, settlements

TABLES = ("reservations", "settlements")


class Forger:
    """Runs any statement: no trigger and no reference stops it."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._postgres = parsed.get_backend_name() == "postgresql"
        self._engine = create_engine(parsed.set(drivername="postgresql+psycopg") if self._postgres else parsed)
        if not self._postgres:
            event.listen(self._engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=OFF").close())

    def run(self, statements: Sequence[str]) -> None:
        """In one transaction, with what guards the tables out of the way."""
        with self._engine.begin() as connection:
            for statement in (*self._disarm(), *statements):
                connection.execute(text(statement))

    def write_anew(self) -> None:
        """Make a chain of whatever the lines say now, as if they had always said so."""
        self.run([])
        with self._engine.begin() as connection:
            rows = [
                (line, dict(row))
                for line, table in ((Line.RESERVATION, reservations), (Line.SETTLEMENT, settlements))
                for row in connection.execute(table.select()).mappings()
            ]
            head = START
            for line, row in sorted(rows, key=lambda each: int(each[1]["position"])):
                table = reservations if line is Line.RESERVATION else settlements
                place = table.c.position == row["position"]
                head = head.next(line, {name: row[name] for name in FIELDS[line]})
                connection.execute(table.update().where(place).values(position=head.position, hash=head.hash))
            connection.execute(chain_head.update().values(position=head.position, hash=head.hash))

    def close(self) -> None:
        """Leave."""
        self._engine.dispose()

    def _disarm(self) -> list[str]:
        if self._postgres:
            return [f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in TABLES]
        return [
            f"DROP TRIGGER IF EXISTS {table}_refuse_{command}" for table in TABLES for command in ("update", "delete")
        ]
