"""The store: durable, grouped, private, and in words when it cannot."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Connection, event, select, text
from sqlalchemy.exc import IntegrityError, OperationalError, StatementError

from dashbelle.admission import keys
from dashbelle.store import Store, StoreUnavailable, UtcTime, back_up

INSERT = "INSERT INTO keys (name, digest, prefix, created_at) VALUES (:name, :name, 'sk-000', '2026-01-31 00:00:00')"
Work = Callable[[Connection], None]


def add(name: str) -> Work:
    return lambda connection: connection.execute(text(INSERT), {"name": name}).close()


def names(connection: Connection) -> list[str]:
    return list(connection.scalars(text("SELECT name FROM keys ORDER BY id")))


class Gate:
    """A work that holds the writer until it is opened, so that what follows queues up into one group."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Event()
        self._opened = Event()

    def work(self, _connection: Connection) -> None:
        self._loop.call_soon_threadsafe(self._entered.set)
        self._opened.wait()

    async def close(self, store: Store) -> asyncio.Task[None]:
        """Hold the writer; what comes of the work that does."""
        held = asyncio.create_task(store.transact(self.work))
        await self._entered.wait()
        return held

    async def open(self) -> None:
        self._opened.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "dashbelle.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with Store.open(f"sqlite:///{path}") as store:
        yield store


async def queued(store: Store, works: Sequence[Work]) -> Sequence[object]:
    """Run the works as one group; what each of them came to."""
    gate = Gate()
    held = await gate.close(store)
    *results, _opened = await asyncio.gather(*map(store.transact, works), gate.open(), return_exceptions=True)
    await held
    return results


async def test_what_transact_wrote_is_committed_when_it_returns(store: Store, path: Path) -> None:
    await store.transact(add("a"))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM keys").fetchall() == [("a",)]


async def test_transact_returns_what_the_work_returned(store: Store) -> None:
    assert await store.transact(lambda connection: connection.scalar(text("SELECT 7"))) == 7


async def test_a_failing_work_undoes_its_own_changes_and_raises_its_own_error(store: Store) -> None:
    def fail(connection: Connection) -> None:
        add("b")(connection)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await store.transact(fail)
    await store.transact(add("c"))
    assert await store.read(names) == ["c"]


async def test_an_error_does_not_show_what_was_to_be_written(store: Store) -> None:
    await store.transact(add("canary"))
    with pytest.raises(IntegrityError) as caught:
        await store.transact(add("canary"))
    assert "canary" not in str(caught.value)


async def test_a_failure_of_the_database_is_told_in_one_line(store: Store) -> None:
    def fail(_connection: Connection) -> None:
        raise OperationalError("SELECT 1", None, OSError("connection lost\nat line 7"))

    with pytest.raises(StoreUnavailable, match=r"\Athe database failed: connection lost\Z"):
        await store.transact(fail)


async def test_works_that_queue_up_are_committed_together(store: Store) -> None:
    commits: list[Connection] = []
    event.listen(store._engines[0], "commit", commits.append)
    await queued(store, [add(f"k{number}") for number in range(50)])
    assert len(commits) == 2  # the gate's, and one for fifty
    assert len(await store.read(names)) == 50


async def test_a_failing_work_leaves_the_others_of_its_group_committed(store: Store) -> None:
    def fail(connection: Connection) -> None:
        add("undone")(connection)
        raise LookupError("mine")

    results = await queued(store, [add("a"), fail, add("b"), add("a")])
    assert results[0] is results[2] is None
    assert isinstance(results[1], LookupError)
    assert isinstance(results[3], IntegrityError)
    assert await store.read(names) == ["a", "b"]


async def test_a_full_disk_reaches_every_caller_of_the_group_and_passes(store: Store) -> None:
    def fill(connection: Connection) -> None:
        connection.execute(text(INSERT), {"name": "x" * 100_000})

    await store.transact(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1").close())
    results = await queued(store, [add("a"), fill, add("b")])
    assert [str(result) for result in results] == ["the database failed: database or disk is full"] * 3
    assert all(isinstance(result, StoreUnavailable) for result in results)
    assert await store.read(names) == []
    await store.transact(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1000000").close())
    assert await queued(store, [add("a"), add("b")]) == [None, None]
    assert await store.read(names) == ["a", "b"]


async def test_a_failed_commit_reaches_every_caller_of_the_group_and_passes(store: Store) -> None:
    def fail_at_commit(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql(
            "INSERT INTO settlements VALUES (1, 'r', 1, 1, 'stop', 0, NULL, '2026-01-31', x'00')"
        )

    for works in ([add("a"), fail_at_commit, add("b")], [fail_at_commit]):
        results = await queued(store, works)
        assert {str(result) for result in results} == {"the database failed: FOREIGN KEY constraint failed"}
        assert all(isinstance(result, StoreUnavailable) for result in results)
    assert await store.read(names) == []
    await store.transact(add("a"))
    assert await store.read(names) == ["a"]


async def test_a_transaction_that_sqlite_ended_by_itself_is_not_called_durable(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="no transaction is active"):
        await store.transact(lambda connection: connection.exec_driver_sql("ROLLBACK").close())


class Sums:
    """A batch that answers each number with itself and how many came together; 0 fails, below 0 is refused."""

    def __call__(self, connection: Connection, numbers: Sequence[int]) -> list[tuple[int, int] | Exception]:
        for number in numbers:
            add(f"{number}")(connection)
        if 0 in numbers:
            raise LookupError("mine")
        return [OSError("refused") if number < 0 else (number, len(numbers)) for number in numbers]


async def posted(store: Store, batch: Sums, numbers: Sequence[int]) -> Sequence[object]:
    gate = Gate()
    held = await gate.close(store)
    posts = (store.post(batch, number) for number in numbers)
    *results, _opened = await asyncio.gather(*posts, gate.open(), return_exceptions=True)
    await held
    return results


async def test_items_that_queue_up_for_a_batch_are_handed_over_together(store: Store) -> None:
    assert await posted(store, Sums(), [1, 2, 3]) == [(1, 3), (2, 3), (3, 3)]
    assert await store.read(names) == ["1", "2", "3"]


async def test_an_exception_among_the_outcomes_is_raised_to_its_caller_alone(store: Store) -> None:
    first, refused, last = await posted(store, Sums(), [1, -1, 2])
    assert (first, last) == ((1, 3), (2, 3))
    assert isinstance(refused, OSError)


async def test_a_batch_that_fails_is_undone_and_its_items_are_tried_one_by_one(store: Store) -> None:
    first, failed, last = await posted(store, Sums(), [1, 0, 2])
    assert (first, last) == ((1, 1), (2, 1))
    assert isinstance(failed, LookupError)
    assert await store.read(names) == ["1", "2"]


async def test_batches_and_works_of_one_group_do_not_undo_each_other(store: Store) -> None:
    gate = Gate()
    held = await gate.close(store)
    sums = Sums()
    waiting = (store.post(sums, 0), store.transact(add("a")), store.post(sums, 1), store.transact(add("a")))
    failed, added, one, doubled, _ = await asyncio.gather(*waiting, gate.open(), return_exceptions=True)
    await held
    assert (added, one) == (None, (1, 1))
    assert (type(failed), type(doubled)) == (LookupError, IntegrityError)
    assert await store.read(names) == ["1", "a"]


async def test_a_full_disk_reaches_every_item_of_a_batch(store: Store) -> None:
    def fill(connection: Connection, sizes: Sequence[int]) -> list[None]:
        for size in sizes:
            connection.execute(text(INSERT), {"name": "x" * size})
        return [None for _ in sizes]

    await store.transact(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1").close())
    gate = Gate()
    held = await gate.close(store)
    results = await asyncio.gather(store.post(fill, 1), store.post(fill, 100_000), gate.open(), return_exceptions=True)
    await held
    assert [type(result) for result in results[:2]] == [StoreUnavailable] * 2
    assert await store.read(names) == []


async def test_a_backup_is_what_is_committed_and_readable_by_its_owner_alone(store: Store, path: Path) -> None:
    await store.transact(add("a"))
    copy = path.with_name("copy.db")
    await back_up(f"sqlite:///{path}", copy)
    await store.transact(add("b"))
    with closing(sqlite3.connect(copy)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert other.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
        assert other.execute("SELECT name FROM keys").fetchall() == [("a",)]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert {file.name for file in path.parent.iterdir()} == {
        path.name,
        f"{path.name}-wal",
        f"{path.name}-shm",
        copy.name,
    }


async def test_a_backup_takes_no_other_files_place(store: Store, path: Path) -> None:
    copy = path.with_name("copy.db")
    copy.write_text("precious")
    with pytest.raises(StoreUnavailable, match=f"cannot back up to {copy}: it exists"):
        await back_up(f"sqlite:///{path}", copy)
    assert copy.read_text() == "precious"
    assert not list(path.parent.glob(".copy*"))
    await store.transact(add("a"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///{folder}/none.db", "there is no database {folder}/none.db"),
        ("postgresql://u@h/d", "cannot back up Postgres: use pg_dump --format=custom --file={folder}/copy.db"),
    ],
)
async def test_what_cannot_be_backed_up_is_said(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StoreUnavailable, match=message.format(folder=tmp_path)):
        await back_up(url.format(folder=tmp_path), tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


async def test_the_work_of_a_caller_who_left_is_committed_and_its_group_answered(store: Store) -> None:
    gate = Gate()
    held = await gate.close(store)
    leaver = asyncio.create_task(store.transact(add("a")))
    asyncio.get_running_loop().call_soon(leaver.cancel)
    with pytest.raises(asyncio.CancelledError):
        await leaver
    await asyncio.gather(store.transact(add("b")), gate.open())
    await held
    assert await store.read(names) == ["a", "b"]


async def test_close_commits_what_is_queued(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    gate = Gate()
    held = await gate.close(store)
    callers = asyncio.gather(*(store.transact(add(f"k{number}")) for number in range(100)))
    asyncio.get_running_loop().call_soon(callers.cancel)
    with pytest.raises(asyncio.CancelledError):
        await callers
    await gate.open()
    await store.close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM keys").fetchall() == [(100,)]
    await held


async def test_a_closed_store_says_so_and_closes_twice(path: Path) -> None:
    store = Store.open(f"sqlite:///{path}")
    await store.close()
    await store.close()
    for door in (store.transact, store.read):
        with pytest.raises(StoreUnavailable, match="closed"):
            await door(names)


async def test_the_read_door_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.read(add("a"))


async def test_the_database_syncs_each_commit_and_minds_references(store: Store) -> None:
    def pragmas(connection: Connection) -> list[object]:
        asked = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in asked]

    full, on = 2, 1
    assert await store.transact(pragmas) == ["wal", full, on]


async def test_only_the_owner_can_read_the_files(store: Store, path: Path) -> None:
    await store.transact(add("a"))
    files = [path, *path.parent.glob("dashbelle.db-*")]
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_is_no_database_is_refused_in_one_line(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be taken for one\n" * 100)
    with pytest.raises(StoreUnavailable, match=f"cannot open the database {path}: file is not a database"):
        Store.open(f"sqlite:///{path}")


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="Is a directory"):
        Store.open(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u:hunter2@h/d", "nonsense"])
def test_another_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="database_url") as caught:
        Store.open(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@/d?host=/none", "postgres://u@/d?host=/none&password=hunter2"])
def test_a_postgres_that_cannot_be_reached_is_told_in_one_line_without_its_password(url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"cannot open the database postgres.*: connection") as caught:
        Store.open(url)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_moments_come_back_in_utc_and_naive_ones_are_refused(store: Store) -> None:
    beijing = datetime(2026, 1, 31, 8, tzinfo=timezone(timedelta(hours=8)))
    row = {"name": "a", "digest": b"d", "prefix": "p", "created_at": beijing}
    await store.transact(lambda connection: connection.execute(keys.keys.insert(), row).close())
    assert isinstance(keys.keys.c.created_at.type, UtcTime)
    back = await store.read(lambda connection: connection.scalar(select(keys.keys.c.created_at)))
    assert back == datetime(2026, 1, 31, tzinfo=UTC)
    assert back is not None
    assert back.tzinfo is UTC
    naive = row | {"created_at": datetime(2026, 1, 31)}  # noqa: DTZ001 - what must be refused
    with pytest.raises(StatementError, match="no time zone"):
        await store.transact(lambda connection: connection.execute(keys.keys.insert(), naive).close())
