"""What `verify` notices of a ledger that somebody changed, and what nobody could notice without a witness."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from forger import Forger
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dashbelle.metering.chain import FIELDS, Head, Line
from dashbelle.metering.ledger import Ledger, Reservation, Settlement
from dashbelle.metering.verify import Fault, verify
from dashbelle.store import Store, StoreUnavailable
from dashbelle.vocabulary import EndReason

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CALLS = 5
OPEN = "r6"


@pytest.fixture
async def ledger(store: Store) -> Ledger:
    """r1 to r5 settled one after the other, r6 open: the reservation of r3 is line 5, its settlement line 6."""
    ledger = Ledger(store)
    for number in range(1, CALLS + 1):
        at = NOON + timedelta(minutes=number)
        await ledger.reserve(Reservation(f"r{number}", 1, "k", None, "belle", "smol", 8, 100, at))
        await ledger.settle(Settlement(f"r{number}", 8, number, EndReason.STOP, 0.25, 1 / 3, at))
    await ledger.reserve(Reservation(OPEN, 1, "k", "ws", "belle", "smol", 8, 100, NOON))
    return ledger


@pytest.fixture
def forger(url: str, ledger: Ledger) -> Iterator[Forger]:  # noqa: ARG001 - there must be one to forge
    forger = Forger(url)
    yield forger
    forger.close()


async def fault_of(store: Store, witness: Head | None = None) -> Fault:
    verdict = await verify(store, witness=witness)
    assert verdict.fault is not None
    return verdict.fault


@pytest.mark.usefixtures("ledger")
async def test_an_untouched_ledger_is_sound_and_tells_its_head(store: Store) -> None:
    told: list[tuple[int, int]] = []
    verdict = await verify(store, progress=lambda done, lines: told.append((done, lines)))
    assert (verdict.fault, verdict.lines, verdict.head.position) == (None, 11, 11)
    assert told == [(11, 11)]
    assert (await verify(store, witness=verdict.head)).fault is None


async def test_an_empty_ledger_is_sound(store: Store) -> None:
    verdict = await verify(store)
    assert (verdict.fault, verdict.lines) == (None, 0)


CHANGES: dict[str, str] = {
    "request_id": "'x'",
    "key_id": "2",
    "key_name": "'other'",
    "workspace": "'other'",
    "model": "'smol'",
    "served_model": "'belle'",
    "input_tokens": "7",
    "max_output_tokens": "99",
    "started_at": "'2026-01-31 12:00:00.000000+00:00'",
    "output_tokens": "1",
    "end_reason": "'error'",
    "queue_s": "0.5",
    "first_token_s": "NULL",
    "ended_at": "'2026-01-31 12:03:00.000001+00:00'",
}


@pytest.mark.parametrize(("line", "field"), [(line, field) for line in Line for field in FIELDS[line]])
async def test_a_change_of_any_field_is_noticed_at_its_line(
    store: Store, forger: Forger, line: Line, field: str
) -> None:
    place = {Line.RESERVATION: 5, Line.SETTLEMENT: 6}[line]
    change = CHANGES[field]
    if store._engines[0].dialect.name == "sqlite":
        change = change.replace("+00:00", "")
    forger.run([f"UPDATE {line}s SET {field} = {change} WHERE position = {place}"])  # noqa: S608 - a forger's
    fault = await fault_of(store)
    changed = "x" if field == "request_id" else "r3"
    assert (fault.line, fault.position, fault.request_id) == (line, place, changed)
    assert "its content or the line before it" in fault.what


FORGERIES: dict[str, tuple[list[str], Line | None, int | None, str | None, str]] = {
    "a line's hash": (
        ["UPDATE settlements SET hash = chain_head.hash FROM chain_head WHERE request_id = 'r3'"],
        Line.SETTLEMENT, 6, "r3", "hash was made of",
    ),
    "a settlement deleted": (
        ["DELETE FROM settlements WHERE request_id = 'r3'"],
        Line.SETTLEMENT, 6, "r3", "lines 6 to 6 are gone",
    ),
    "a reservation deleted": (
        ["DELETE FROM reservations WHERE request_id = 'r3'"],
        Line.RESERVATION, 5, "r3", "lines 5 to 5 are gone",
    ),
    "a call deleted": (
        ["DELETE FROM settlements WHERE request_id = 'r3'", "DELETE FROM reservations WHERE request_id = 'r3'"],
        None, 5, None, "lines 5 to 6 are gone",
    ),
    "a settlement at the end deleted": (
        ["DELETE FROM open_calls", "DELETE FROM reservations WHERE position = 11",
         "DELETE FROM settlements WHERE position = 10"],
        Line.SETTLEMENT, 10, "r5", "lines 10 to 11 at the end are gone",
    ),
    "everything deleted": (
        ["DELETE FROM settlements", "DELETE FROM reservations", "DELETE FROM open_calls", "DELETE FROM rollups"],
        None, 1, None, "lines 1 to 11 at the end are gone",
    ),
    "a line inserted behind the head": (
        ["INSERT INTO settlements SELECT 12, 'r6', 8, 0, 'stop', 0, NULL, ended_at, hash FROM settlements "
         "WHERE position = 10"],
        Line.SETTLEMENT, 12, "r6", "inserted behind the chain's head",
    ),
    "a line inserted before the first": (
        ["INSERT INTO settlements SELECT -9000000000, 'r6', 8, 0, 'stop', 0, NULL, ended_at, hash FROM settlements "
         "WHERE position = 10"],
        Line.SETTLEMENT, -9_000_000_000, "r6", "inserted before the first line",
    ),
    "a line inserted in another one's place": (
        ["INSERT INTO settlements SELECT 5, 'r6', 8, 0, 'stop', 0, NULL, ended_at, hash FROM settlements "
         "WHERE position = 10"],
        Line.SETTLEMENT, 5, "r6", "another line has its place",
    ),
    "the lines of two calls swapped": (
        ["UPDATE settlements SET position = -1 WHERE request_id = 'r2'",
         "UPDATE settlements SET position = 4 WHERE request_id = 'r3'",
         "UPDATE settlements SET position = 6 WHERE request_id = 'r2'"],
        Line.SETTLEMENT, 4, "r3", "hash was made of",
    ),
    "the counts of two calls swapped": (
        ["UPDATE settlements SET output_tokens = 5 - output_tokens WHERE request_id IN ('r2', 'r3')"],
        Line.SETTLEMENT, 4, "r2", "hash was made of",
    ),
    "a sum": (
        ["UPDATE rollups SET output_tokens = output_tokens - 1"],
        None, None, None,
        "the sum of 2026-01-31, key k, model belle served by smol, stop is kept as 5 calls, 40 + 14 tokens; "
        "the lines say 5 calls, 40 + 15 tokens",
    ),
    "a sum deleted": (["DELETE FROM rollups"], None, None, None, "kept as 0 calls"),
    "a sum inserted": (
        ["INSERT INTO rollups VALUES ('hour', '2026-01-31T12', 1, 'other', 'belle', 'smol', 'stop', 1, 8, 1)"],
        None, None, None, "key other",
    ),
    "the head's hash": (
        ["UPDATE chain_head SET hash = settlements.hash FROM settlements WHERE settlements.position = 10"],
        None, 11, None, "another hash than the newest line",
    ),
    "the head put back": (["UPDATE chain_head SET position = 10"], None, 10, None, "another hash"),
    "the head put forward": (
        ["UPDATE chain_head SET position = 9000000000"],
        None, 12, None, "lines 12 to 9000000000 at the end are gone",
    ),
    "the head deleted": (["DELETE FROM chain_head"], None, None, None, "the chain's head is gone"),
    "an open call forgotten": (["DELETE FROM open_calls"], Line.SETTLEMENT, None, OPEN, "open or settled"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forgery_is_noticed_and_named(store: Store, forger: Forger, forgery: str) -> None:
    statements, line, position, request_id, what = FORGERIES[forgery]
    forger.run(statements)
    fault = await fault_of(store)
    assert what in fault.what
    assert (fault.line, fault.position, fault.request_id) == (line, position, request_id)


async def test_a_chain_written_anew_is_noticed_only_by_a_witness(store: Store, forger: Forger) -> None:
    witness = (await verify(store)).head
    forger.run(["UPDATE reservations SET key_name = 'other' WHERE request_id = 'r3'",
                "DELETE FROM rollups",
                "INSERT INTO rollups VALUES ('day', '2026-01-31', 1, 'k', 'belle', 'smol', 'stop', 4, 32, 12)",
                "INSERT INTO rollups VALUES ('day', '2026-01-31', 1, 'other', 'belle', 'smol', 'stop', 1, 8, 3)",
            "INSERT INTO rollups SELECT 'hour', '2026-01-31T12', key_id, key_name, model, served_model, end_reason, "
            "calls, input_tokens, output_tokens FROM rollups"])  # fmt: skip
    forger.write_anew()
    assert (await verify(store)).fault is None
    fault = await fault_of(store, witness)
    assert (fault.position, "written anew" in fault.what) == (11, True)


async def test_an_end_cut_off_with_all_its_traces_is_noticed_only_by_a_witness(store: Store, forger: Forger) -> None:
    witness = (await verify(store)).head
    forger.run(["DELETE FROM open_calls", f"DELETE FROM reservations WHERE request_id = '{OPEN}'"])  # noqa: S608
    forger.write_anew()
    assert (await verify(store)).fault is None
    assert "the witness has seen 11 lines" in (await fault_of(store, witness)).what


async def test_lines_that_were_added_since_do_not_trouble_a_witness(store: Store, ledger: Ledger) -> None:
    witness = (await verify(store)).head
    await ledger.settle(Settlement(OPEN, 8, 1, EndReason.STOP, 0.0, None, NOON))
    assert (await verify(store, witness=witness)).fault is None


async def test_nothing_is_written_to_a_chain_without_a_head(ledger: Ledger, forger: Forger) -> None:
    forger.run(["DELETE FROM chain_head"])
    with pytest.raises(StoreUnavailable, match="the head of the ledger's chain is gone"):
        await ledger.settle(Settlement(OPEN, 8, 1, EndReason.STOP, 0.0, None, NOON))


@pytest.mark.parametrize("command", ["UPDATE {} SET input_tokens = 0", "DELETE FROM {}"])
@pytest.mark.parametrize("table", ["reservations", "settlements"])
@pytest.mark.usefixtures("ledger")
async def test_the_database_refuses_to_change_a_line(store: Store, table: str, command: str) -> None:
    with pytest.raises((DBAPIError, StoreUnavailable), match="append-only"):
        await store.transact(lambda connection: connection.execute(text(command.format(table))).close())
