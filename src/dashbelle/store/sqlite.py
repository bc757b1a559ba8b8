"""SQLite: engines that sync each commit and begin as we say, and a copy of the file while it is written to."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event

from dashbelle.store.failures import StoreUnavailable

BUSY_TIMEOUT_S = 5.0


class SqliteFile:
    """One file. One server at a time may have it; other processes may read and write it meanwhile."""

    def __init__(self, url: URL, *, readers: int) -> None:
        self.path = _made(_path(url))
        self.name = str(self.path)
        self.writing = _engine(
            self.path, begin="BEGIN IMMEDIATE", pragmas=("journal_mode=WAL", "synchronous=FULL"), connections=1
        )
        self.reading = _engine(self.path, begin="BEGIN", pragmas=("query_only=ON",), connections=readers)

    def living(self, _connection: Connection) -> frozenset[int]:
        """Nobody can tell, so: none."""
        return frozenset()


def back_up(url: URL, target: Path) -> None:
    """Copy what is committed now to a new file, which is complete or not there. Raises StoreUnavailable."""
    source = _path(url)
    if not source.is_file():
        raise StoreUnavailable(f"cannot back up: there is no database {source}")
    draft = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            _copy(source, draft)
            target.hardlink_to(draft)  # unlike a rename it takes no other file's place
            _sync(target.parent)
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        raise StoreUnavailable(f"cannot back up to {target}: it exists") from None
    except OSError as error:
        raise StoreUnavailable(f"cannot back up to {target}: {error.strerror}") from None
    except sqlite3.Error as error:
        raise StoreUnavailable(f"cannot back up {source}: {error}") from None


def _copy(source: Path, draft: Path) -> None:
    """In one step: a copy in several begins anew whenever another process writes in between."""
    with (
        closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_S)) as original,
        closing(sqlite3.connect(draft, isolation_level=None)) as copy,
    ):
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE").close()  # one file, whole by itself
    _sync(draft)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _made(path: Path) -> Path:
    """This file, there and readable by its owner alone if this makes it. Raises StoreUnavailable."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"cannot open the database {path}: {error.strerror}") from None
    return path


def _path(url: URL) -> Path:
    if url.database in {None, "", ":memory:"}:
        raise StoreUnavailable(f"database_url {url.render_as_string()} names no file, as sqlite:////var/lib/d.db does")
    return Path(str(url.database))


def _engine(path: Path, *, begin: str, pragmas: Sequence[str], connections: int) -> Engine:
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
