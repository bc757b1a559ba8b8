"""A ledger as the first release left it: not chained, with calls that nobody settled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dashbelle import migrations
from dashbelle.store.database import _database
from dashbelle.store.moments import UtcTime
from dashbelle.vocabulary import EndReason, Receipt

FIRST_REVISION = "0001"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
UNSETTLED_EVERY = 50

_RESERVED = (
    "request_id", "key_id", "key_name", "workspace", "model", "served_model", "input_tokens", "max_output_tokens",
)  # fmt: skip
_reservations = sa.table("reservations", *map(sa.column, _RESERVED), sa.column("started_at", UtcTime))
_SETTLED = ("request_id", "input_tokens", "output_tokens", "end_reason", "queue_s", "first_token_s")
_settlements = sa.table("settlements", *map(sa.column, _SETTLED), sa.column("ended_at", UtcTime))


def fill_old(url: str, *, calls: int) -> list[Receipt]:
    """Make it, and tell the receipts of its settled calls, oldest end first."""
    database = _database(url, 1)
    reserved = [_reservation(number) for number in range(calls)]
    settled = [_settlement(number) for number in range(calls) if number % UNSETTLED_EVERY]
    with database.writing.begin() as connection:
        migrations.upgrade(connection, FIRST_REVISION)
        connection.execute(sa.insert(_reservations), reserved)
        connection.execute(sa.insert(_settlements), settled)
    for engine in (database.writing, database.reading):
        engine.dispose()
    by_id = {row["request_id"]: row for row in reserved}
    receipts = [_receipt(by_id[row["request_id"]], row) for row in settled]
    return sorted(receipts, key=lambda receipt: (receipt.ended_at, receipt.request_id))


def revision_of(url: str) -> str | None:
    """Which release's schema a database has."""
    database = _database(url, 1)
    with database.reading.connect() as connection:
        revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    for engine in (database.writing, database.reading):
        engine.dispose()
    return revision


def _reservation(number: int) -> dict[str, Any]:
    values = (f"old-{number * 7919 % 10007}", number % 3, f"key-{number % 3}", None, "belle", "模型", 8, 100)
    started_at = NOON + timedelta(minutes=number // 2, microseconds=number % 5)
    return {**dict(zip(_RESERVED, values, strict=True)), "started_at": started_at}


def _settlement(number: int) -> dict[str, Any]:
    """Some end in the moment of another line, and one before it began: its machine's clock was set back."""
    reserved = _reservation(number)
    values = (reserved["request_id"], 8, number % 90, "stop", 0, None if number % 2 else number / 7)
    ended_at = reserved["started_at"] + timedelta(minutes=-30 if number % 515 == 0 else number % 4)
    return {**dict(zip(_SETTLED, values, strict=True)), "ended_at": ended_at}


def _receipt(reserved: dict[str, Any], settled: dict[str, Any]) -> Receipt:
    return Receipt(
        request_id=reserved["request_id"],
        key=reserved["key_name"],
        model=reserved["model"],
        served_model=reserved["served_model"],
        input_tokens=settled["input_tokens"],
        output_tokens=settled["output_tokens"],
        end_reason=EndReason(settled["end_reason"]),
        started_at=reserved["started_at"],
        ended_at=settled["ended_at"],
    )
