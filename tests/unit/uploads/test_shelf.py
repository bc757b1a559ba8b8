"""Files that are there: each seen by its owner alone, and never more of them than allowed."""

from __future__ import annotations

import asyncio
import stat
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar, cast

import pytest
from sqlalchemy import Connection

from dashbelle.errors import InvalidParameter, NoSuchFile, PayloadTooLarge, TooManyFiles
from dashbelle.store import Store, StoreUnavailable
from dashbelle.uploads.arrival import Arrival, FailedFile, arriving
from dashbelle.uploads.shelf import FileLimits, Shelf, StoredFile
from dashbelle.vocabulary import Caller

T = TypeVar("T")
ADA, BOB = Caller(1, "ada"), Caller(2, "bob")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LIMITS = FileLimits(file_bytes=16, request_bytes=1000, key_bytes=30, key_files=3)


class Clock:
    """A minute later at every look."""

    def __init__(self) -> None:
        self._looks = 0

    def __call__(self) -> datetime:
        self._looks += 1
        return NOON + timedelta(minutes=self._looks)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
        yield store


@pytest.fixture
async def shelf(store: Store, tmp_path: Path) -> Shelf:
    shelf = Shelf(store, tmp_path / "files", limits=LIMITS, now=Clock())
    await shelf.sweep()
    return shelf


async def put(shelf: Shelf, caller: Caller = ADA, **contents: bytes) -> list[StoredFile | FailedFile]:
    """Upload files by name and content."""
    async with arriving(shelf, caller) as arrival:
        for name, content in contents.items():
            await fill(arrival, name, content)
        return await arrival.keep([], "test")


async def fill(arrival: Arrival, name: str, content: bytes) -> None:
    arrival.begin(name)
    for place in range(0, len(content), 5):
        await arrival.write(content[place : place + 5])


async def stored(shelf: Shelf, name: str = "a", content: bytes = b"abc", caller: Caller = ADA) -> StoredFile:
    (answer,) = await put(shelf, caller, **{name: content})
    assert isinstance(answer, StoredFile)
    return answer


def reasons(answers: list[StoredFile | FailedFile]) -> list[object]:
    return [type(answer.reason) if isinstance(answer, FailedFile) else answer.name for answer in answers]


def on_disk(shelf: Shelf) -> list[str]:
    return sorted(path.name for path in shelf.folder.iterdir())


async def test_a_file_comes_back_as_it_went_in(shelf: Shelf) -> None:
    file = await stored(shelf, "a.txt", b"hello, world")
    assert await shelf.get(ADA, file.file_id) == file
    assert shelf.path(file).read_bytes() == b"hello, world"
    assert (file.size, file.md5.hex(), file.purpose) == (12, "e4d7f1b4ed2e42d15898f4b27b019da4", "test")
    assert shelf.path(file).parent == shelf.folder


async def test_only_the_owner_of_the_server_can_read_the_files(shelf: Shelf) -> None:
    file = await stored(shelf)
    assert stat.S_IMODE(shelf.path(file).stat().st_mode) == 0o600
    assert stat.S_IMODE(shelf.folder.stat().st_mode) == 0o700


async def test_an_empty_file_is_a_file(shelf: Shelf) -> None:
    file = await stored(shelf, content=b"")
    assert (file.size, shelf.path(file).read_bytes()) == (0, b"")


async def test_another_keys_file_is_not_there(shelf: Shelf) -> None:
    file = await stored(shelf)
    with pytest.raises(NoSuchFile):
        await shelf.get(BOB, file.file_id)
    with pytest.raises(NoSuchFile):
        await shelf.delete(BOB, file.file_id)
    assert await shelf.list(BOB, 0, 10) == (0, [])
    assert await shelf.get(ADA, file.file_id) == file
    assert shelf.path(file).exists()


@pytest.mark.parametrize("file_id", ["", "x", "../dashbelle.db", "\0", str(uuid.UUID(int=5)), "a" * 10_000])
async def test_an_id_that_nobody_has_is_not_there(shelf: Shelf, file_id: str) -> None:
    with pytest.raises(NoSuchFile):
        await shelf.get(ADA, file_id)
    with pytest.raises(NoSuchFile):
        await shelf.delete(ADA, file_id)


async def test_a_deleted_file_is_gone_from_list_and_disk(shelf: Shelf) -> None:
    keep, drop = await stored(shelf, "keep"), await stored(shelf, "drop")
    await shelf.delete(ADA, drop.file_id)
    with pytest.raises(NoSuchFile):
        await shelf.delete(ADA, drop.file_id)
    assert await shelf.list(ADA, 0, 10) == (1, [keep])
    assert on_disk(shelf) == [keep.file_id]


async def test_the_list_is_newest_first_and_in_order_within_an_upload(shelf: Shelf) -> None:
    await put(shelf, old=b"")
    await put(shelf, first=b"", second=b"")
    total, files = await shelf.list(ADA, 0, 10)
    assert (total, [file.name for file in files]) == (3, ["first", "second", "old"])
    total, files = await shelf.list(ADA, 1, 1)
    assert (total, [file.name for file in files]) == (3, ["second"])


async def test_a_file_too_large_is_refused_and_the_others_are_kept(shelf: Shelf) -> None:
    answers = await put(shelf, small=b"x" * 8, large=b"x" * 17, fits=b"x" * 16)
    assert reasons(answers) == ["small", PayloadTooLarge, "fits"]
    assert len(on_disk(shelf)) == 2


async def test_a_key_has_only_so_many_bytes(shelf: Shelf) -> None:
    await put(shelf, a=b"x" * 15)
    assert reasons(await put(shelf, b=b"x" * 16, c=b"x" * 15)) == [PayloadTooLarge, "c"]
    assert reasons(await put(shelf, d=b"x")) == [PayloadTooLarge]
    assert reasons(await put(shelf, BOB, d=b"x")) == ["d"]


async def test_a_key_has_only_so_many_files(shelf: Shelf) -> None:
    assert reasons(await put(shelf, a=b"", b=b"", c=b"", d=b"")) == ["a", "b", "c", TooManyFiles]
    (refused,) = await put(shelf, e=b"")
    assert isinstance(refused, FailedFile)
    assert refused.reason.message == "Out of number, <3> of <3> files has been uploaded."
    assert len(on_disk(shelf)) == 3


async def test_a_deleted_file_makes_room(shelf: Shelf) -> None:
    file = await stored(shelf, content=b"x" * 15)
    await shelf.delete(ADA, file.file_id)
    assert reasons(await put(shelf, a=b"x" * 15, b=b"x" * 15)) == ["a", "b"]


async def test_uploads_at_the_same_time_share_what_a_key_may_have(shelf: Shelf) -> None:
    async with arriving(shelf, ADA) as first, arriving(shelf, ADA) as second:
        await fill(first, "a", b"x" * 16)
        await fill(second, "b", b"x" * 15)
        assert len(on_disk(shelf)) == 1
        answers = [*await first.keep([], ""), *await second.keep([], "")]
    assert reasons(answers) == ["a", PayloadTooLarge]
    assert len(on_disk(shelf)) == 1


async def test_what_began_before_others_were_kept_is_still_counted_with_them(shelf: Shelf) -> None:
    async with arriving(shelf, ADA) as late:
        for name in ("a", "b", "c"):
            await stored(shelf, name, b"")
        await fill(late, "d", b"")
        assert reasons(await late.keep([], "")) == [TooManyFiles]
    assert len(on_disk(shelf)) == 3


async def test_an_upload_that_is_left_leaves_nothing_and_gives_its_room_back(shelf: Shelf) -> None:
    with suppress(InvalidParameter):
        async with arriving(shelf, ADA) as arrival:
            await fill(arrival, "a", b"x" * 16)
            assert len(on_disk(shelf)) == 1
            raise InvalidParameter
    assert on_disk(shelf) == []
    assert await shelf.list(ADA, 0, 10) == (0, [])
    assert reasons(await put(shelf, a=b"x" * 15, b=b"x" * 15)) == ["a", "b"]


class ToldStore:
    """Tells when somebody begins to write."""

    def __init__(self, store: Store) -> None:
        self.writing = asyncio.Event()
        self.read = store.read
        self._store = store

    async def transact(self, work: Callable[[Connection], T]) -> T:
        self.writing.set()
        return await self._store.transact(work)


async def test_a_caller_who_goes_away_while_a_file_is_committed_does_not_take_its_bytes_along(
    store: Store, tmp_path: Path
) -> None:
    told = ToldStore(store)
    shelf = Shelf(cast(Store, told), tmp_path / "files")
    await shelf.sweep()
    task = asyncio.create_task(put(shelf, a=b"abc"))
    await told.writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while shelf.arriving[ADA.key_id]:
        await asyncio.sleep(0)
    _, files = await shelf.list(ADA, 0, 10)
    assert [file.file_id for file in files] == on_disk(shelf) != []


class ClosedStore:
    """Says that it is closed to whoever writes."""

    def __init__(self, store: Store) -> None:
        self.read = store.read

    async def transact(self, _work: object) -> None:
        raise StoreUnavailable("the database is closed")


async def test_without_a_row_there_is_no_file(store: Store, tmp_path: Path) -> None:
    shelf = Shelf(cast(Store, ClosedStore(store)), tmp_path / "files")
    await shelf.sweep()
    with pytest.raises(StoreUnavailable):
        await put(shelf, a=b"abc")
    assert on_disk(shelf) == []


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\训练 1.jsonl", "训练 1.jsonl"),
        ("/abs", "abs"),
        ("全角　空格.txt", "全角　空格.txt"),
        ("..", ".."),
        ("%2e%2e%2fx", "%2e%2e%2fx"),
    ],
)
async def test_a_name_is_a_label_and_never_a_path(shelf: Shelf, name: str, label: str) -> None:
    file = await stored(shelf, name, b"abc")
    assert file.name == label
    assert on_disk(shelf) == [file.file_id]
    assert str(uuid.UUID(file.file_id)) == file.file_id


@pytest.mark.parametrize("name", ["", "a/", "a\nb", "\0", "a" * 256, "\u202egpj.exe"])
async def test_a_name_that_cannot_be_shown_is_refused(shelf: Shelf, name: str) -> None:
    assert reasons(await put(shelf, **{name: b"abc"})) == [InvalidParameter]
    assert on_disk(shelf) == []


async def test_the_sweep_removes_what_has_no_row_and_touches_nothing_else(shelf: Shelf) -> None:
    kept = await stored(shelf)
    (shelf.folder / str(uuid.UUID(int=7))).write_bytes(b"half done")
    (shelf.folder / "notes.txt").write_bytes(b"somebody's own")
    await shelf.sweep()
    assert on_disk(shelf) == sorted([kept.file_id, "notes.txt"])
