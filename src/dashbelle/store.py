"""The database: connect, migrate, transact, read; knows no table and no row's meaning."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sqlalchemy import URL, Connection, DateTime, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.types import TypeDecorator

from dashbelle import migrations

BUSY_TIMEOUT_S = 5.0
GROUP_LIMIT = 256
READERS = 2
_COMMANDS_FAULT = (IntegrityError, ProgrammingError, DataError)

T = TypeVar("T")


class StoreUnavailable(Exception):
    """The database cannot be opened, read or written. Its text is one line."""


class UtcTime(TypeDecorator[datetime]):
    """A moment, stored as UTC; goes in and comes out aware. Raises ValueError for a naive one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's
        """To UTC: SQLite drops the offset."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - same
        """From UTC."""
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


class Store:
    """One database. Works (`transact`, `read`) are plain functions of a connection; they return data, never cursors.

    They run in the store's own threads, so that the event loop never waits for the disk.
    """

    def __init__(self, writing: Engine, reading: Engine) -> None:
        self._engines = (writing, reading)
        self._writer = _Writer(writing)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="dashbelle-store-reader")
        self._closed = False

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at this SQLAlchemy URL, made and migrated if need be. Raises StoreUnavailable."""
        path = _sqlite_file(url)
        writing = _sqlite(
            path, begin="BEGIN IMMEDIATE", pragmas=("journal_mode=WAL", "synchronous=FULL"), connections=1
        )
        reading = _sqlite(path, begin="BEGIN", pragmas=("query_only=ON",), connections=READERS)
        try:
            _migrate(writing, reading)
        except migrations.NewerSchema as error:
            raise StoreUnavailable(f"cannot open the database {path}: {error}") from None
        except (DBAPIError, sqlite3.Error) as error:
            raise _failure(error, f"cannot open the database {path}") from None
        return cls(writing, reading)

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; durable once this returns. What waits together is committed together.

        Raises what `work` raised, its changes undone; StoreUnavailable if the database could not write. A caller that
        is cancelled while it waits does not cancel the work.
        """
        if self._closed:
            raise StoreUnavailable("the database is closed")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._writer.submit(_Job(work, loop, answer))
        return await answer

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one consistent view of what is committed. Raises what `work` raised, or StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engines[1].connect() as connection:
                return work(connection)
        except (DBAPIError, sqlite3.Error) as error:
            raise _outward(error) from None

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


@dataclass(slots=True)
class _Job(Generic[T]):
    """One work on its way through the writer, and who waits for it."""

    work: Callable[[Connection], T]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[T]
    result: T = field(init=False)
    error: Exception | None = None

    def run(self, connection: Connection) -> None:
        """Run the work; its failure is kept for its caller and raised, to undo the transaction."""
        try:
            self.result = self.work(connection)
        except Exception as error:
            self.error = _outward(error)
            raise

    def run_in_group(self, connection: Connection) -> None:
        """Run the work; its failure undoes its own changes and is kept for its caller."""
        savepoint = connection.begin_nested()
        try:
            self.run(connection)
        except Exception:
            if isinstance(self.error, StoreUnavailable):
                # A full disk makes SQLite roll back the whole group by itself: nothing of it may be called durable.
                raise
            savepoint.rollback()
        else:
            savepoint.commit()

    def resolve(self) -> None:
        """Tell the caller, unless it has left. In the caller's loop."""
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


class _Writer:
    """The one thread that writes: takes all that is queued and commits it at once, for one sync of the disk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="dashbelle-store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: _Job[Any]) -> None:
        """Queue one job."""
        self._queue.put(job)

    def close(self) -> None:
        """Return when all that was queued is committed."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            taken = self._take()
            more = taken[-1] is not None
            group = [job for job in taken if job is not None]
            self._commit(group)
            _answer(group)

    def _take(self) -> list[_Job[Any] | None]:
        """Wait for one job, then everything that has queued up behind it; None, the end, comes last."""
        taken = [self._queue.get()]
        with contextlib.suppress(Empty):
            while taken[-1] is not None and len(taken) < GROUP_LIMIT:
                taken.append(self._queue.get_nowait())
        return taken

    def _commit(self, group: list[_Job[Any]]) -> None:
        try:
            with self._engine.begin() as connection:
                if len(group) == 1:
                    group[0].run(connection)
                else:
                    for job in group:
                        job.run_in_group(connection)
        except Exception as error:  # noqa: BLE001 - every caller of the group is told; this thread must go on
            for job in group:
                job.error = job.error or _failure(error)


def _answer(group: Sequence[_Job[Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job[Any]]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, jobs)


def _resolve(jobs: Sequence[_Job[Any]]) -> None:
    for job in jobs:
        job.resolve()


def _outward(error: Exception) -> Exception:
    """StoreUnavailable for the database's own failures; a command's fault (a duplicate, a bug) stays what it is."""
    storage = isinstance(error, DBAPIError | sqlite3.Error) and not isinstance(error, _COMMANDS_FAULT)
    return _failure(error) if storage else error


def _failure(error: Exception, what: str = "the database failed") -> StoreUnavailable:
    # `prepare` raises sqlite3's own errors: SQLAlchemy does not wrap them.
    reason = error.orig if isinstance(error, DBAPIError) else error
    return StoreUnavailable(f"{what}: {str(reason).partition(chr(10))[0]}")


def _sqlite_file(url: str) -> Path:
    """The file of a SQLite URL, there and readable by its owner alone if this makes it."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreUnavailable(
            "database_url is not an SQLAlchemy URL such as sqlite:////var/lib/dashbelle.db"
        ) from None
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise StoreUnavailable(f"database_url {parsed.render_as_string()}: only sqlite:///FILE is supported")
    path = Path(str(parsed.database))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"cannot open the database {path}: {error.strerror}") from None
    return path


def _sqlite(path: Path, *, begin: str, pragmas: Sequence[str], connections: int) -> Engine:
    """An engine whose transactions begin and end by our own statements; sqlite3's guessing is off."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
    )

    def prepare(connection: sqlite3.Connection, _: object) -> None:
        # recursive_triggers: without it INSERT OR REPLACE deletes rows behind the back of an append-only table.
        for pragma in ("foreign_keys=ON", "recursive_triggers=ON", *pragmas):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    # sqlite3's commit() is silent when SQLite has already rolled back by itself (disk full); COMMIT is not.
    event.listen(engine, "commit", lambda connection: connection.exec_driver_sql("COMMIT"))
    return engine


def _migrate(writing: Engine, reading: Engine) -> None:
    """In one transaction: a kill in between leaves the old schema."""
    with reading.connect() as connection:
        if migrations.at_head(connection):
            return
    with writing.begin() as connection:
        migrations.upgrade(connection)
