"""The store itself: opens a database by its URL, brings it up to date, and runs works in its own threads."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from dashbelle import migrations
from dashbelle.store import sqlite
from dashbelle.store.failures import STORAGE, StoreUnavailable, failure, outward
from dashbelle.store.postgres import PostgresDatabase
from dashbelle.store.sqlite import SqliteFile
from dashbelle.store.writer import Batch, Item, Job, Writer

READERS = 2
SESSION_BITS = 31
"""What an advisory lock of Postgres has room for."""

T = TypeVar("T")


class Database(Protocol):
    """What a kind of database must offer. `name` is what people are shown, without any password."""

    name: str
    writing: Engine
    reading: Engine

    def living(self, connection: Connection) -> frozenset[int]:
        """The sessions of processes that are known to live; a subset where that cannot be known."""
        ...


class Store:
    """One database. Works (`transact`, `read`) are plain functions of a connection; they return data, never cursors.

    They run in the store's own threads, so that the event loop never waits for the disk. Writing transactions run one
    at a time, whichever process or server they come from, each on what the one before it left.
    """

    def __init__(self, database: Database, session: int) -> None:
        self.session = session
        """The number of this opening of the database, not 0 and unlike any other's."""
        self._database = database
        self._engines = (database.writing, database.reading)
        self._writer = Writer(database.writing)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dashbelle-store-reader")
        self._closed = False

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at this SQLAlchemy URL, made and migrated if need be. Raises StoreUnavailable."""
        session = 1 + secrets.randbelow(2**SESSION_BITS - 1)
        database = _database(url, session)
        try:
            _migrate(database)
        except migrations.NewerSchema as error:
            raise StoreUnavailable(f"cannot open the database {database.name}: {error}") from None
        except STORAGE as error:
            raise failure(error, f"cannot open the database {database.name}") from None
        return cls(database, session)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; durable once this returns. What waits together is committed together.

        Raises what `work` raised, its changes undone; StoreUnavailable if the database could not write. A caller that
        is cancelled while it waits does not cancel the work.
        """
        return await self.post(lambda connection, _items: [work(connection)], None)

    async def post(self, batch: Batch[Item, T], item: Item) -> T:
        """The same for one item of a batch: what is committed together is handed to `batch` in one call."""
        self._check_open()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._writer.submit(Job(batch, item, loop, answer))
        return await answer

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent view of what is committed. Raises what `work` raised, or StoreUnavailable."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def living(self, connection: Connection) -> frozenset[int]:
        """The sessions, this one included, whose processes live as far as the database can tell. For works."""
        return self._database.living(connection) | {self.session}

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the database is closed")

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._database.reading.connect() as connection:
                return work(connection)
        except STORAGE as error:
            raise outward(error) from None

    async def close(self) -> None:
        """Commit what is queued, then let go of the database. May be called twice."""
        self._closed = True
        await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        for engine in self._engines:
            engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def back_up(url: str, target: Path) -> None:
    """Copy what is committed in this database to the new file `target`, while others write; migrates nothing.

    Raises StoreUnavailable, always for Postgres, which has a tool of its own.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite":
        raise StoreUnavailable(f"cannot back up Postgres: use pg_dump --format=custom --file={target}")
    await asyncio.to_thread(sqlite.back_up, parsed, target)


def _database(url: str, session: int) -> Database:
    parsed = _parsed(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return SqliteFile(parsed, readers=READERS)
    if kind in {"postgresql", "postgres"}:
        return PostgresDatabase(parsed, session=session, readers=READERS)
    raise StoreUnavailable(f"database_url begins with {kind}: only sqlite and postgresql are supported")


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise StoreUnavailable(
            "database_url is not an SQLAlchemy URL such as sqlite:////var/lib/dashbelle.db or postgresql://user@host/name"
        ) from None


def _migrate(database: Database) -> None:
    """In one transaction: a kill in between leaves the old schema."""
    with database.reading.connect() as connection:
        if migrations.at_head(connection):
            return
    with database.writing.begin() as connection:
        migrations.upgrade(connection)
