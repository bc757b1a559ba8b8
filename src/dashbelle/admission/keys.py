"""API keys: made, listed, revoked, and told who calls; keeps no key, only its keyed digest."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from dashbelle.errors import InvalidApiKey
from dashbelle.store import Store, UtcTime
from dashbelle.vocabulary import Caller

PEPPER = "pepper"
"""The name of its file."""
PEPPER_BYTES = 32
PREFIX_CHARS = 6
REMEMBERED_S = 0.5
"""How long a proved key is not looked up again, and so how late another process's revocation may take effect."""
REMEMBERED_KEYS = 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SECRET = re.compile(r"sk-[0-9a-f]{64}")

metadata = MetaData()
keys = Table(
    "keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("prefix", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
)
_live = keys.c.revoked_at.is_(null())
Index("keys_live_name", keys.c.name, unique=True, sqlite_where=_live)

_by_digest = select(keys.c.id, keys.c.name, keys.c.digest).where(keys.c.digest == bindparam("digest"), _live)


class KeyNotChanged(Exception):
    """What was asked of the keys cannot be done. Its text is one line for the person who asked."""


class BadKeyName(KeyNotChanged):
    """A name outside the alphabet."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"key name {name!r}: use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )


class KeyNameTaken(KeyNotChanged):
    """A live key has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a key named '{name}' exists; revoke it first or choose another name")


class NoSuchKey(KeyNotChanged):
    """No live key has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no live key is named {name!r}")


class PepperUnusable(Exception):
    """The pepper cannot be read or made, or is no pepper. Its text is one line."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What may be shown of a key. Times are UTC."""

    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None


class Keys:
    """The keys of one database under one pepper."""

    def __init__(
        self,
        store: Store,
        pepper: bytes,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._now = now
        self._remembered: dict[bytes, tuple[Caller, float]] = {}

    async def create(self, name: str) -> str:
        """Make a key and return it, the only time that it can be seen. Raises BadKeyName, KeyNameTaken."""
        if _NAME.fullmatch(name) is None:
            raise BadKeyName(name)
        secret = f"sk-{secrets.token_hex(32)}"
        row = {
            "name": name,
            "digest": self._digest(secret),
            "prefix": secret[:PREFIX_CHARS],
            "created_at": self._now(),
        }
        try:
            await self._store.transact(lambda connection: connection.execute(insert(keys), row).close())
        except IntegrityError:
            raise KeyNameTaken(name) from None
        return secret

    async def list(self) -> list[KeyRecord]:
        """Every key, revoked ones too, oldest first."""
        columns = (keys.c.name, keys.c.prefix, keys.c.created_at, keys.c.revoked_at)
        query = select(*columns).order_by(keys.c.id)
        return await self._store.read(lambda connection: [KeyRecord(*row) for row in connection.execute(query)])

    async def revoke(self, name: str) -> None:
        """End the live key of this name: here at once, in other processes within REMEMBERED_S. Raises NoSuchKey."""
        statement = update(keys).where(keys.c.name == name, _live).values(revoked_at=self._now())

        def work(connection: Connection) -> int:
            return connection.execute(statement).rowcount

        if await self._store.transact(work) == 0:
            raise NoSuchKey(name)
        self._remembered.clear()

    async def identify(self, secret: str | None) -> Caller:
        """Who holds this key. Raises InvalidApiKey, the same for a missing, malformed, unknown and revoked one."""
        if secret is None or _SECRET.fullmatch(secret) is None:
            raise InvalidApiKey
        asked_at = self._clock()
        digest = self._digest(secret)
        caller, until = self._remembered.get(digest, (None, asked_at))
        if caller is not None and asked_at < until:
            return caller
        caller = await self._look_up(digest)
        self._remember(digest, caller, asked_at + REMEMBERED_S)
        return caller

    async def _look_up(self, digest: bytes) -> Caller:
        def work(connection: Connection) -> tuple[int, str, bytes] | None:
            row = connection.execute(_by_digest, {"digest": digest}).one_or_none()
            return None if row is None else (row.id, row.name, row.digest)

        found = await self._store.read(work)
        # The index compares bytes until they differ, but bytes of a keyed digest, which no caller can steer.
        if found is None or not hmac.compare_digest(found[2], digest):
            raise InvalidApiKey
        return Caller(key_id=found[0], key_name=found[1])

    def _remember(self, digest: bytes, caller: Caller, until: float) -> None:
        self._remembered.pop(digest, None)
        if len(self._remembered) >= REMEMBERED_KEYS:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = (caller, until)

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode(), "sha256")


def load_pepper(home: Path) -> bytes:
    """The secret that the digests are keyed with: <home>/pepper, made on first use. Raises PepperUnusable."""
    path = home / PEPPER
    try:
        if not path.exists():
            _make_pepper(path)
        pepper = path.read_bytes()
    except OSError as error:
        raise PepperUnusable(f"cannot use the pepper {path}: {error.strerror}") from None
    if len(pepper) != PEPPER_BYTES:
        raise PepperUnusable(f"the pepper {path} has {len(pepper)} bytes instead of {PEPPER_BYTES}; restore it")
    return pepper


def _make_pepper(path: Path) -> None:
    """Whole or not at all, and one for all processes that try at the same time: the first link wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".pepper-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(PEPPER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
