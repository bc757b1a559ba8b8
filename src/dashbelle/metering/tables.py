"""The tables of the ledger and of budgets, as the newest migration leaves them; no statement that uses them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from dashbelle.store import UtcTime

metadata = MetaData()

_POSITION = BigInteger().with_variant(Integer(), "sqlite")
_ID = Text().with_variant(Text(collation="C"), "postgresql")

reservations = Table(
    "reservations",
    metadata,
    Column("position", _POSITION, autoincrement=False, nullable=False),
    Column("request_id", _ID, nullable=False),
    Column("key_id", Integer, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("workspace", Text),
    Column("model", Text, nullable=False),
    Column("served_model", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("max_output_tokens", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("position", name="reservations_position"),
    UniqueConstraint("request_id", name="reservations_request_id"),
)
settlements = Table(
    "settlements",
    metadata,
    Column("position", _POSITION, autoincrement=False, nullable=False),
    Column("request_id", _ID, ForeignKey("reservations.request_id"), nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("end_reason", Text, nullable=False),
    Column("queue_s", Float, nullable=False),
    Column("first_token_s", Float),
    Column("ended_at", UtcTime, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("position", name="settlements_position"),
    UniqueConstraint("request_id", name="settlements_request_id"),
    Index("settlements_ended_at", "ended_at", "request_id"),
)
chain_head = Table(
    "chain_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)
"""One row, of id 1."""
open_calls = Table(
    "open_calls",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("session", Integer, nullable=False),
)
"""Calls that are reserved and not settled, and in which session of the store they run."""
rollups = Table(
    "rollups",
    metadata,
    Column("unit", Text, primary_key=True),
    Column("span", Text, primary_key=True),
    Column("key_id", Integer, primary_key=True, autoincrement=False),
    Column("key_name", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("served_model", Text, primary_key=True),
    Column("end_reason", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Sums of settlements by the UTC day in which they ended, and once more by the UTC hour; by what tells them apart."""
limits = Table(
    "limits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    UniqueConstraint("scope", "name", "kind", "period", name="limits_subject"),
)
"""An empty name: each that has none of its own. An empty period: no budget."""
prices = Table(
    "prices",
    metadata,
    Column("model", Text, primary_key=True),
    Column("input_price", BigInteger, nullable=False),
    Column("output_price", BigInteger, nullable=False),
)
"""Billionths of the currency per token."""
spending = Table(
    "spending",
    metadata,
    Column("limit_id", Integer, ForeignKey("limits.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("period_name", Text, primary_key=True),
    Column("spent", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
)
"""How much of a budget is used up, per key or model and per day or month; `reserved` belongs to open calls."""
holds = Table(
    "holds",
    metadata,
    Column("request_id", _ID, primary_key=True),
    Column("limit_id", Integer, ForeignKey("limits.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("period_name", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("input_price", BigInteger, nullable=False),
    Column("output_price", BigInteger, nullable=False),
)
"""What an open call has reserved of which budget, and what a token of it costs there."""
