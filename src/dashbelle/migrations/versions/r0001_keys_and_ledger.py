"""The first schema: keys, and the ledger of reservations and settlements."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the three tables, and let nothing change a line of the ledger."""
    _keys()
    _reservations()
    _settlements()
    if op.get_bind().dialect.name == "sqlite":
        for table in ("reservations", "settlements"):
            for command in ("UPDATE", "DELETE"):
                _forbid(command, table)


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("revoked_at", _MOMENT),
    )
    live = sa.text("revoked_at IS NULL")
    op.create_index("keys_live_name", "keys", ["name"], unique=True, sqlite_where=live, postgresql_where=live)


def _reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Integer, nullable=False),
        sa.Column("key_name", sa.Text, nullable=False),
        sa.Column("workspace", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("served_model", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("max_output_tokens", sa.Integer, nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
    )


def _settlements() -> None:
    op.create_table(
        "settlements",
        sa.Column("request_id", sa.Text, sa.ForeignKey("reservations.request_id"), primary_key=True),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("end_reason", sa.Text, nullable=False),
        sa.Column("queue_s", sa.Float, nullable=False),
        sa.Column("first_token_s", sa.Float),
        sa.Column("ended_at", _MOMENT, nullable=False),
    )
    op.create_index("settlements_ended_at", "settlements", ["ended_at", "request_id"])


def _forbid(command: str, table: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_refuse_{command.lower()} BEFORE {command} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no {command} of {table}'); END"
    )
