"""Files on their way in: written to the shelf's folder piece by piece, bounded, and gone unless they are kept."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from dashbelle.errors import InvalidParameter, PayloadTooLarge, Refused
from dashbelle.uploads.shelf import Share, Shelf, StoredFile
from dashbelle.vocabulary import Caller

MAX_NAME = 255
"""Characters of a file's name."""

_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Controls, and what turns the direction of a text, so that a name looks like another one."""


@dataclass(frozen=True, slots=True)
class FailedFile:
    """One file of an upload that was not taken."""

    name: str
    reason: Refused


class Draft:
    """One file that arrives. `refusal` says why it will not be kept; `kept` that it is."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.size = 0
        self.refusal: Refused | None = None
        self.kept = False
        self._path = path
        self._file: BinaryIO | None = None
        self._digest = hashlib.md5(usedforsecurity=False)

    @property
    def file_id(self) -> str:
        """The name that its bytes have in the folder."""
        return self._path.name

    @property
    def md5(self) -> bytes:
        """Of all that was written."""
        return self._digest.digest()

    def write(self, piece: bytes) -> None:
        """Append `piece`. Blocks; raises OSError."""
        if self._file is None:
            self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._file.write(piece)
        self._digest.update(piece)

    def close(self) -> None:
        """Make durable what was written, even if that is nothing. Blocks; raises OSError."""
        self.write(b"")
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def settle(self, answer: StoredFile | Refused) -> StoredFile | FailedFile:
        """Take what was decided, and say it."""
        self.kept = isinstance(answer, StoredFile)
        return answer if isinstance(answer, StoredFile) else FailedFile(self.name, answer)

    def discard(self) -> None:
        """Remove it."""
        if self._file is not None:
            with suppress(OSError):  # a full disk: what is still buffered is to be lost anyway
                self._file.close()
            self._path.unlink(missing_ok=True)


class Arrival:
    """The files of one upload, one after another: `begin` a file, `write` its pieces; at the end `keep` them all."""

    def __init__(self, shelf: Shelf, caller: Caller, share: Share) -> None:
        self._shelf = shelf
        self._caller = caller
        self._share = share
        self._drafts: list[Draft] = []

    def begin(self, name: str) -> None:
        """The next file, called `name`; no path is ever made of that."""
        label = name.replace("\\", "/").rpartition("/")[2]
        draft = Draft(label, self._shelf.folder / str(self._shelf.new_id()))
        self._drafts.append(draft)
        if not 1 <= len(label) <= MAX_NAME or _UNSHOWABLE.search(label):
            draft.refusal = InvalidParameter(f"The name of a file should be 1 to {MAX_NAME} visible characters.")
        self._check_size(draft, 0)

    async def write(self, piece: bytes) -> None:
        """More of the file that was begun last; let fall once that is refused. Raises OSError."""
        draft = self._drafts[-1]
        self._check_size(draft, len(piece))
        if draft.refusal is None:
            draft.size += len(piece)
            self._shelf.arriving[self._caller.key_id] += len(piece)
            await asyncio.to_thread(draft.write, piece)

    async def keep(self, descriptions: Sequence[str], purpose: str) -> list[StoredFile | FailedFile]:
        """Let them be there: one answer per file, in their order. Raises OSError, StoreUnavailable; then none is."""
        drafts, self._drafts = self._drafts, []
        created_at = self._shelf.now()
        rows = [
            _row(draft, description or "", purpose, created_at)
            for draft, description in zip_longest(drafts, descriptions[: len(drafts)])
            if draft.refusal is None
        ]
        # Shielded: a commit cannot be called back, and must not lose its files to a caller who goes away meanwhile.
        return await asyncio.shield(asyncio.create_task(self._keep(drafts, rows)))

    def discard(self) -> None:
        """Remove whatever was not kept."""
        self._release(self._drafts)

    def _check_size(self, draft: Draft, more: int) -> None:
        """Refuse `draft` if it may not grow by `more` bytes."""
        if draft.refusal is not None:
            return
        limits = self._shelf.limits
        others = sum(other.refusal is None for other in self._drafts) - 1
        arriving = self._shelf.arriving[self._caller.key_id]
        try:
            if draft.size + more > limits.file_bytes:
                raise PayloadTooLarge(f"Size of a file should be at most {limits.file_bytes} bytes.")
            Share(self._share.files + others, self._share.bytes + arriving).check(more, limits)
        except Refused as refusal:
            draft.refusal = refusal
            self._release([draft])

    async def _keep(self, drafts: list[Draft], rows: list[dict[str, Any]]) -> list[StoredFile | FailedFile]:
        try:
            await asyncio.to_thread(_make_durable, drafts, self._shelf.folder)
            added = iter(await self._shelf.add(self._caller, rows))
            return [draft.settle(draft.refusal or next(added)) for draft in drafts]
        finally:
            self._release(drafts)

    def _release(self, drafts: Sequence[Draft]) -> None:
        """End their arrival; what is not kept goes."""
        for draft in drafts:
            self._shelf.arriving[self._caller.key_id] -= draft.size
            draft.size = 0
            if not draft.kept:
                draft.discard()


@asynccontextmanager
async def arriving(shelf: Shelf, caller: Caller) -> AsyncGenerator[Arrival, None]:
    """One upload; what was not kept when the block is left is gone."""
    arrival = Arrival(shelf, caller, await shelf.share(caller))
    try:
        yield arrival
    finally:
        arrival.discard()


def _row(draft: Draft, description: str, purpose: str, created_at: datetime) -> dict[str, Any]:
    return {
        "file_id": draft.file_id,
        "name": draft.name,
        "description": description,
        "purpose": purpose,
        "size": draft.size,
        "md5": draft.md5,
        "created_at": created_at,
    }


def _make_durable(drafts: Sequence[Draft], folder: Path) -> None:
    for draft in drafts:
        if draft.refusal is None:
            draft.close()
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
