"""Postgres: engines whose commits are on disk, one writing transaction at a time across all servers."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text

from dashbelle.store.failures import StoreUnavailable

LOCKS = 0x44617368
"""The class of our advisory locks ("Dash"). Object 0 is the writers' lock, any other one the session of that number."""
_SAFE = {
    "connect_timeout": 5,
    # A host that has gone is noticed: without these a write would wait for the kernel's retries, a quarter of an hour.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "dashbelle",
}
# The same from the server's end: a session whose machine has gone must not be taken to live on.
_NOTICED = ("SET tcp_keepalives_idle = 30", "SET tcp_keepalives_interval = 10", "SET tcp_keepalives_count = 3")
_WRITER = (
    *_NOTICED,
    "SET synchronous_commit = on",
    "SET lock_timeout = '5s'",
    # A server that hangs with the writers' lock must not stop the others.
    "SET idle_in_transaction_session_timeout = '10s'",
)
_READER = (
    *_NOTICED,
    "SET default_transaction_read_only = on",
    "SET default_transaction_isolation = 'repeatable read'",
)
_BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock({LOCKS}, 0)"
"""Like SQLite's BEGIN IMMEDIATE: what a transaction reads is true until it has written, and none waits for two."""
_living = text(
    "SELECT CAST(objid AS bigint) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
    "AND CAST(classid AS bigint) = :locks AND objid <> 0 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
).bindparams(locks=LOCKS)


class PostgresDatabase:
    """One database on a server. Several Dashbelle servers may share it.

    A server's session is alive as long as its writing connection is: that holds the session's lock.
    """

    def __init__(self, url: URL, *, session: int, readers: int) -> None:
        self.name = url.set(query={}).render_as_string(hide_password=True)
        # Shared: a broken connection that Postgres has not noticed yet does not keep its successor out.
        lock = f"SELECT pg_advisory_lock_shared({LOCKS:d}, {session:d})"
        try:
            self.writing = _engine(url, (*_WRITER, lock), connections=1, begin=_BEGIN)
            self.reading = _engine(url, _READER, connections=readers)
            event.listen(self.writing, "close", self._end_session)
        except ModuleNotFoundError:
            raise StoreUnavailable(
                "database_url names Postgres, and its driver is not installed: pip install 'dashbelle[postgres]'"
            ) from None

    def living(self, connection: Connection) -> frozenset[int]:
        """The sessions whose processes are connected."""
        return frozenset(connection.scalars(_living))

    def _end_session(self, connection: Any, _: object) -> None:  # noqa: ANN401 - psycopg is optional, and so are its types
        """At once: Postgres takes a moment to notice that a connection was closed."""
        with suppress(self.writing.dialect.loaded_dbapi.Error):  # it may be broken
            connection.execute("SELECT pg_advisory_unlock_all()")


def _engine(url: URL, settings: tuple[str, ...], *, connections: int, begin: str | None = None) -> Engine:
    """An engine whose connections have these settings, and whose transactions begin with `begin`."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=begin is None,  # where `begin` finds out itself that a connection is broken, it is spared
        hide_parameters=True,
        connect_args=_SAFE,
    )

    def prepare(connection: Any, _: object) -> None:  # noqa: ANN401 - psycopg is optional, and so are its types
        connection.autocommit = True
        for setting in settings:
            connection.execute(setting)
        connection.autocommit = begin is not None

    event.listen(engine, "connect", prepare)
    if begin is not None:
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine
