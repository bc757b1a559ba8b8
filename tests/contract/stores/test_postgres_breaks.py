"""What only a server in another process can do: restart, lose an answer, hang, and have several servers of ours."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from cutting_proxy import CuttingProxy
from postgres_server import PostgresServer
from sqlalchemy import make_url, text
from sqlalchemy.exc import DataError

from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.metering.verify import verify
from dashbelle.store import Store, StoreUnavailable
from dashbelle.store.postgres import LOCKS
from dashbelle.vocabulary import EndReason

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """Of an empty database on Postgres."""
    return postgres.create_database()


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[tuple[CuttingProxy, Path]]:
    """A proxy, and the folder that its socket is in."""
    with tempfile.TemporaryDirectory(prefix="dashbelle-cut-") as folder:
        proxy = CuttingProxy(Path(folder), postgres.folder)
        yield proxy, Path(folder)
        proxy.close()


def through(proxy: tuple[CuttingProxy, Path], url: str) -> str:
    parsed = make_url(url)
    return parsed.set(query={**parsed.query, "host": str(proxy[1])}).render_as_string(hide_password=False)


def reservation(request_id: str) -> Reservation:
    return Reservation(request_id, 1, "k", None, "m", "m", 8, 100, NOON)


def settlement(request_id: str) -> Settlement:
    return Settlement(request_id, 8, 3, EndReason.STOP, 0.0, None, NOON)


async def test_calls_go_on_after_a_restart_of_postgres(postgres: PostgresServer, store: Store) -> None:
    ledger = Ledger(store)
    await ledger.reserve(reservation("r"))
    assert await ledger.newest(1) == []
    postgres.restart()
    assert await ledger.newest(1) == []
    assert await ledger.settle(settlement("r"))
    assert (await verify(store)).lines == 2


async def test_a_reservation_whose_commit_was_not_answered_is_settled_with_nothing_used(
    proxy: tuple[CuttingProxy, Path], url: str
) -> None:
    async with Store.open(through(proxy, url)) as store:
        ledger = Ledger(store)
        proxy[0].armed = True
        with pytest.raises(StoreUnavailable):
            await ledger.reserve(reservation("doubtful"))
        assert await store.transact(lambda connection: connection.scalar(text("SELECT count(*) FROM open_calls"))) == 1
        await ledger.reserve(reservation("next"))
        receipts = [receipt async for receipt in ledger.receipts()]
        assert [(one.request_id, one.end_reason, one.input_tokens) for one in receipts] == [
            ("doubtful", EndReason.ERROR, 0)
        ]
        assert (await verify(store)).fault is None


async def test_a_settlement_whose_commit_was_not_answered_stands_once_when_it_is_tried_again(
    proxy: tuple[CuttingProxy, Path], url: str
) -> None:
    async with Store.open(through(proxy, url)) as store:
        ledger = Ledger(store)
        await ledger.reserve(reservation("r"))
        proxy[0].armed = True
        with pytest.raises(StoreUnavailable):
            await ledger.settle(settlement("r"))
        assert not await ledger.settle(settlement("r"))
        verdict = await verify(store)
        assert (verdict.lines, verdict.fault) == (2, None)


async def test_a_server_that_starts_leaves_the_calls_of_living_servers_alone(url: str, store: Store) -> None:
    async with Store.open(url) as living, Store.open(url) as dying:
        await Ledger(living).reserve(reservation("living"))
        await Ledger(dying).reserve(reservation("dead"))
        await dying.close()
        assert await Ledger(store).settle_crashed(NOON) == 1
        assert [receipt.request_id for receipt in await Ledger(store).newest(9)] == ["dead"]
        assert await Ledger(living).settle(settlement("living"))
    assert await Ledger(store).settle_crashed(NOON) == 0


async def test_a_server_that_has_closed_its_database_is_dead_at_once(url: str, store: Store) -> None:
    for _ in range(20):  # without its word Postgres notices it soon, but not always at once
        async with Store.open(url) as leaving:
            await leaving.transact(lambda _connection: None)
            assert leaving.session in await store.transact(store.living)
        assert leaving.session not in await store.transact(store.living)


async def test_a_server_whose_connection_was_replaced_lives_on(
    url: str, store: Store, postgres: PostgresServer
) -> None:
    async with Store.open(url) as living:
        await Ledger(living).reserve(reservation("r"))
        postgres.restart()
        await Ledger(living).reserve(reservation("after"))
        assert await Ledger(store).settle_crashed(NOON) == 0


async def test_commits_reach_the_disk_whatever_the_database_has_as_its_default(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "ALTER ROLE postgres IN DATABASE " + str(make_url(url).database) + " SET synchronous_commit = off"
        )
    async with Store.open(url) as store:
        asked = text("SHOW synchronous_commit")
        assert await store.transact(lambda connection: connection.scalar(asked)) == "on"


async def test_the_read_door_cannot_write(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.read(lambda connection: connection.execute(text("DELETE FROM open_calls")).close())


async def test_a_hung_writer_elsewhere_is_a_failure_and_not_a_hang(url: str, store: Store) -> None:
    with psycopg.connect(url) as hung:
        hung.execute("SELECT pg_advisory_xact_lock(%s, 0)", [LOCKS])
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await Ledger(store).reserve(reservation("r"))
    await Ledger(store).reserve(reservation("r"))


async def test_an_error_of_the_server_does_not_show_what_was_to_be_written(store: Store) -> None:
    canary = "canary\x00"
    statement = text("INSERT INTO prices VALUES (:model, 1, 1)")
    with pytest.raises(DataError) as caught:
        await store.transact(lambda connection: connection.execute(statement, {"model": canary}).close())
    assert "canary" not in str(caught.value)
