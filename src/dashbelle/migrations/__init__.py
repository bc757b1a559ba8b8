"""Brings a database's schema to HEAD; the only place that knows Alembic."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0003"
"""The newest revision. Kept here too, so that a database that has it is opened without importing Alembic."""


class NewerSchema(Exception):
    """The database was written by a newer program. Its text is one line."""


def at_head(connection: Connection) -> bool:
    """Whether there is nothing to do."""
    return _revision(connection) == HEAD


def upgrade(connection: Connection, to: str = "head") -> None:
    """Run what is missing up to a revision, in the transaction that `connection` is in. Raises NewerSchema."""
    from alembic import command  # noqa: PLC0415 - slow to import, and hardly ever needed
    from alembic.config import Config  # noqa: PLC0415 - same
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - same

    config = Config(attributes={"connection": connection})
    # Config interpolates, and a folder's name may have a % in it.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    revision = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise NewerSchema(
            f"it is newer than this program (its schema is {revision}, the newest known here is {HEAD}); "
            "install the newer Dashbelle"
        )
    command.upgrade(config, to)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision
