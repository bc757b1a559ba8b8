"""The files that are there: bytes in a folder under names of our own, rows in the database; knows no HTTP."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
)

from dashbelle.errors import NoSuchFile, PayloadTooLarge, Refused, TooManyFiles
from dashbelle.store import Store, UtcTime
from dashbelle.vocabulary import Caller

_FILE_ID = re.compile(r"[0-9a-f-]{36}")

metadata = MetaData()
files = Table(
    "files",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("file_id", Text, nullable=False, unique=True),
    Column("key_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("md5", LargeBinary(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
Index("files_owner", files.c.key_id, files.c.created_at)


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much is taken."""

    file_bytes: int = 300 * 1024**2
    request_bytes: int = 1024**3
    """Of one upload, all its files together."""
    key_bytes: int = 5 * 1024**3
    key_files: int = 1000


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file that is there. `md5` is the digest itself; the time is UTC."""

    id: int
    file_id: str
    name: str
    description: str
    purpose: str
    size: int
    md5: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Share:
    """What a key has of the shelf."""

    files: int
    bytes: int

    def check(self, size: int, limits: FileLimits) -> None:
        """Refuse one more file of `size` bytes that the key may not have. Raises TooManyFiles, PayloadTooLarge."""
        if self.files >= limits.key_files:
            raise TooManyFiles(f"Out of number, <{self.files}> of <{limits.key_files}> files has been uploaded.")
        if self.bytes + size > limits.key_bytes:
            raise PayloadTooLarge(f"Size of all files of an API key should be at most {limits.key_bytes} bytes.")


class Shelf:
    """The files of one database and folder. A file is there when its row is; bytes without a row get swept away."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        limits: FileLimits = FileLimits(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self.folder = folder
        self.limits = limits
        self.now = now
        self.new_id = new_id
        self.arriving: Counter[int] = Counter()
        """Bytes of uploads under way, by key id."""
        self._store = store

    async def sweep(self) -> None:
        """Make the folder, and remove what an earlier process left half done in it. Raises OSError."""
        query = select(files.c.file_id)
        known = await self._store.read(lambda connection: set(connection.scalars(query)))
        await asyncio.to_thread(_sweep, self.folder, known)

    async def share(self, caller: Caller) -> Share:
        """What `caller` has."""
        return await self._store.read(lambda connection: _share(connection, caller.key_id))

    async def add(self, caller: Caller, rows: Sequence[Mapping[str, Any]]) -> list[StoredFile | Refused]:
        """Let these files be there, each unless the caller's share is full: one answer per row, in their order.

        A row has the fields of StoredFile but `id`; its bytes must lie in the folder already.
        """
        return await self._store.transact(
            lambda connection: [_add(connection, caller.key_id, row, self.limits) for row in rows]
        )

    async def list(self, caller: Caller, start: int, size: int) -> tuple[int, list[StoredFile]]:
        """How many files `caller` has, and `size` of them from the `start`th on, newest first."""
        query = _files_of(caller).order_by(files.c.created_at.desc(), files.c.id).offset(start).limit(size)

        def work(connection: Connection) -> tuple[int, list[StoredFile]]:
            return _share(connection, caller.key_id).files, [StoredFile(*row) for row in connection.execute(query)]

        return await self._store.read(work)

    async def get(self, caller: Caller, file_id: str) -> StoredFile:
        """One file. Raises NoSuchFile, also for another key's."""
        if _FILE_ID.fullmatch(file_id) is None:
            raise NoSuchFile
        query = _files_of(caller).where(files.c.file_id == file_id)
        row = await self._store.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise NoSuchFile
        return StoredFile(*row)

    async def delete(self, caller: Caller, file_id: str) -> None:
        """Remove one file for good. Raises NoSuchFile, also for another key's."""
        file = await self.get(caller, file_id)
        statement = delete(files).where(files.c.file_id == file.file_id)  # SQLite may give an id again
        if await self._store.transact(lambda connection: connection.execute(statement).rowcount) == 0:
            raise NoSuchFile
        await asyncio.to_thread(self.path(file).unlink, missing_ok=True)

    def path(self, file: StoredFile) -> Path:
        """Where its bytes lie."""
        return self.folder / file.file_id


def _files_of(caller: Caller) -> Any:  # noqa: ANN401 - a Select whose columns mypy would have to count
    return select(*(files.c[field.name] for field in fields(StoredFile))).where(files.c.key_id == caller.key_id)


def _share(connection: Connection, key_id: int) -> Share:
    query = select(func.count(), func.coalesce(func.sum(files.c.size), 0)).where(files.c.key_id == key_id)
    return Share(*connection.execute(query).one())


def _add(connection: Connection, key_id: int, row: Mapping[str, Any], limits: FileLimits) -> StoredFile | Refused:
    try:
        _share(connection, key_id).check(row["size"], limits)
    except Refused as refusal:
        return refusal
    number = connection.execute(insert(files).returning(files.c.id), {**row, "key_id": key_id}).scalar_one()
    return StoredFile(id=number, **row)


def _sweep(folder: Path, known: Collection[str]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        with suppress(ValueError):  # no name of ours
            if str(uuid.UUID(path.name)) == path.name and path.name not in known:
                path.unlink()
