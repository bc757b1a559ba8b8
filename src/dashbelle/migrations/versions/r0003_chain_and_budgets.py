"""The ledger's lines chained by hashes, its sums kept, open calls listed; limits, prices and what is spent."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

CHUNK = 1000
_MOMENT = sa.DateTime(timezone=True)
_BIG = sa.BigInteger()
_POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # INTEGER: there it is the row's own number
# By bytes, as SQLite compares: reports come in the same order from both.
_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_LINES = {
    "reservations": (
        "request_id", "key_id", "key_name", "workspace", "model", "served_model", "input_tokens", "max_output_tokens",
        "started_at",
    ),
    "settlements": (
        "request_id", "input_tokens", "output_tokens", "end_reason", "queue_s", "first_token_s", "ended_at",
    ),
}  # fmt: skip


def upgrade() -> None:
    """Move the ledger into chained tables, then let nothing change a line of it."""
    op.drop_index("settlements_ended_at", "settlements")
    for table in ("reservations", "settlements"):
        op.rename_table(table, f"unchained_{table}")
    _chain_tables()
    _derived_tables()
    _budget_tables()
    _chain()
    _derive()
    for table in ("settlements", "reservations"):
        op.drop_table(f"unchained_{table}")
    op.create_index("settlements_ended_at", "settlements", ["ended_at", "request_id"])
    _append_only()


def _chain_tables() -> None:
    op.create_table(
        "reservations",
        sa.Column("position", _POSITION, autoincrement=False, nullable=False),
        sa.Column("request_id", _ID, nullable=False),
        sa.Column("key_id", sa.Integer, nullable=False),
        sa.Column("key_name", sa.Text, nullable=False),
        sa.Column("workspace", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("served_model", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("max_output_tokens", sa.Integer, nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("position", name="reservations_position"),
        sa.UniqueConstraint("request_id", name="reservations_request_id"),
    )
    op.create_table(
        "settlements",
        sa.Column("position", _POSITION, autoincrement=False, nullable=False),
        sa.Column("request_id", _ID, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.Column("queue_s", sa.Float, nullable=False),
        sa.Column("first_token_s", sa.Float),
        sa.Column("ended_at", _MOMENT, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("position", name="settlements_position"),
        sa.UniqueConstraint("request_id", name="settlements_request_id"),
        sa.ForeignKeyConstraint(["request_id"], ["reservations.request_id"], name="settlements_of_reservations"),
    )
    op.create_table(
        "chain_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", _BIG, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
    )


def _derived_tables() -> None:
    op.create_table(
        "open_calls",
        sa.Column("request_id", _ID, primary_key=True),
        sa.Column("session", sa.Integer, nullable=False),
    )
    op.create_table(
        "rollups",
        sa.Column("unit", sa.Text, primary_key=True),
        sa.Column("span", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key_name", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("served_model", sa.Text, primary_key=True),
        sa.Column("end_reason", sa.Text, primary_key=True),
        sa.Column("calls", _BIG, nullable=False),
        sa.Column("input_tokens", _BIG, nullable=False),
        sa.Column("output_tokens", _BIG, nullable=False),
        sqlite_with_rowid=False,
    )


def _budget_tables() -> None:
    op.create_table(
        "limits",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("amount", _BIG, nullable=False),
        sa.UniqueConstraint("scope", "name", "kind", "period", name="limits_subject"),
    )
    op.create_table(
        "prices",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("input_price", _BIG, nullable=False),
        sa.Column("output_price", _BIG, nullable=False),
    )
    op.create_table(
        "spending",
        sa.Column("limit_id", sa.Integer, sa.ForeignKey("limits.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("period_name", sa.Text, primary_key=True),
        sa.Column("spent", _BIG, nullable=False),
        sa.Column("reserved", _BIG, nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("request_id", _ID, primary_key=True),
        sa.Column("limit_id", sa.Integer, sa.ForeignKey("limits.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("period_name", sa.Text, nullable=False),
        sa.Column("amount", _BIG, nullable=False),
        sa.Column("input_price", _BIG, nullable=False),
        sa.Column("output_price", _BIG, nullable=False),
    )


def _chain() -> None:
    """Every line gets its place in the order of the moments that it tells of, a reservation before its settlement."""
    bind = op.get_bind()
    _put_in_order()
    position, digest = 0, bytes(32)
    while rows := _next_rows(bind, position):
        chained: dict[str, list[dict[str, Any]]] = {name: [] for name in _LINES}
        for name, row in rows:
            position += 1
            values = {column: row[column] for column in _LINES[name]}
            digest = hashlib.sha256(digest + _content(name.removesuffix("s"), position, values)).digest()
            chained[name].append({**values, "position": position, "hash": digest})
        for name, lines in chained.items():
            if lines:
                bind.execute(sa.insert(_table(name, "position", "hash")), lines)
    op.drop_table("chain_order")
    head = sa.table("chain_head", *map(sa.column, ("id", "position", "hash")))
    bind.execute(sa.insert(head), {"id": 1, "position": position, "hash": digest})


def _put_in_order() -> None:
    """By the database, which can sort more than memory holds. A clock may have been set back during a call."""
    op.execute(
        "CREATE TABLE chain_order AS "
        "SELECT row_number() OVER (ORDER BY at, kind, request_id) AS position, request_id, kind FROM ("
        "SELECT started_at AS at, 'a' AS kind, request_id FROM unchained_reservations UNION ALL "
        "SELECT CASE WHEN s.ended_at < r.started_at THEN r.started_at ELSE s.ended_at END, 'b', s.request_id "
        "FROM unchained_settlements s JOIN unchained_reservations r ON r.request_id = s.request_id) AS lines"
    )
    op.create_index("chain_order_position", "chain_order", ["position"])


def _next_rows(bind: sa.Connection, after: int) -> list[tuple[str, sa.RowMapping]]:
    """The lines behind the first `after` ones, and of which table each is."""
    order = sa.table("chain_order", sa.column("position"), sa.column("request_id"), sa.column("kind"))
    rows: list[tuple[str, sa.RowMapping]] = []
    for kind, name in (("a", "reservations"), ("b", "settlements")):
        table = _table(f"unchained_{name}")
        query = (
            sa.select(order.c.position, table)
            .join_from(order, table, order.c.request_id == table.c.request_id)
            .where(order.c.position > after, order.c.position <= after + CHUNK, order.c.kind == kind)
        )
        rows += [(name, row) for row in bind.execute(query).mappings()]
    return sorted(rows, key=lambda line: int(line[1]["position"]))


def _table(name: str, *more: str) -> sa.TableClause:
    types: dict[str, Any] = {"started_at": _MOMENT, "ended_at": _MOMENT}
    columns = (*_LINES[name.removeprefix("unchained_")], *more)
    return sa.table(name, *(sa.column(column, types.get(column)) for column in columns))


def _content(kind: str, position: int, values: dict[str, Any]) -> bytes:
    """As metering/chain.py writes it today; kept apart, because what this migration did can never change."""
    cells = [_utc(value) if isinstance(value, datetime) else value for value in values.values()]
    return json.dumps([kind, position, *cells], separators=(",", ":")).encode()


def _utc(moment: datetime) -> str:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="microseconds")


def _derive() -> None:
    """What the lines amount to. Session 0 is nobody's: at the next start its open calls are settled as crashed."""
    op.execute(
        "INSERT INTO open_calls (request_id, session) SELECT request_id, 0 FROM reservations r "
        "WHERE NOT EXISTS (SELECT 1 FROM settlements s WHERE s.request_id = r.request_id)"
    )
    forms = {"day": ("%Y-%m-%d", "YYYY-MM-DD"), "hour": ("%Y-%m-%dT%H", 'YYYY-MM-DD"T"HH24')}
    sqlite = op.get_bind().dialect.name == "sqlite"
    for unit, (theirs, others) in forms.items():
        span = f"strftime('{theirs}', s.ended_at)" if sqlite else f"to_char(s.ended_at AT TIME ZONE 'UTC', '{others}')"
        op.execute(
            "INSERT INTO rollups "  # noqa: S608 - texts of ours
            f"SELECT '{unit}', {span}, r.key_id, r.key_name, r.model, r.served_model, s.end_reason, "
            "count(*), sum(s.input_tokens), sum(s.output_tokens) "
            "FROM settlements s JOIN reservations r ON r.request_id = s.request_id GROUP BY 1, 2, 3, 4, 5, 6, 7"
        )


def _append_only() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    if not sqlite:
        op.execute(
            "CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'the ledger is append-only: no % of %', TG_OP, TG_TABLE_NAME "
            "USING ERRCODE = 'restrict_violation'; END $$"
        )
    for table in ("reservations", "settlements"):
        for command in ("UPDATE", "DELETE") if sqlite else ("UPDATE", "DELETE", "TRUNCATE"):
            op.execute(_trigger(table, command, sqlite=sqlite))


def _trigger(table: str, command: str, *, sqlite: bool) -> str:
    start = f"CREATE TRIGGER {table}_refuse_{command.lower()} BEFORE {command} ON {table} "
    if sqlite:
        return f"{start} BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no {command} of {table}'); END"
    return f"{start} FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only()"
