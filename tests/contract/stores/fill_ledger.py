"""Fills a new SQLite ledger with made-up calls, fast: the lines, hashes and sums that the ledger itself would write.

By hand, for measurements: python tests/contract/stores/fill_ledger.py FILE CALLS
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dashbelle.metering.chain import FIELDS, START, Line
from dashbelle.store import Store

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 365
KEYS = 20
MODELS = (("belle-llama-13b-2m-v1", "smollm2-135m-instruct"), ("smollm2-135m-instruct",) * 2, ("qwen",) * 2)
REASONS = ("stop", "stop", "stop", "stop", "length", "client_gone", "timeout")
CHUNK = 20_000
_MOMENT = "%Y-%m-%d %H:%M:%S.%f"


async def fill(path: Path, calls: int) -> None:
    """Calls spread evenly over a year, each settled right after its reservation."""
    await Store.open(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("synchronous=OFF", "journal_mode=MEMORY", "cache_size=-400000"):
            connection.execute(f"PRAGMA {pragma}")
        head = START
        sums: dict[tuple[Any, ...], Counter[str]] = {}
        for start in range(0, calls, CHUNK):
            rows: dict[Line, list[tuple[Any, ...]]] = {line: [] for line in Line}
            for line, values in _lines(start, min(start + CHUNK, calls), calls, sums):
                head = head.next(line, values)
                rows[line].append((head.position, *map(_cell, values.values()), head.hash))
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO reservations VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows[Line.RESERVATION])
            connection.executemany("INSERT INTO settlements VALUES (?,?,?,?,?,?,?,?,?)", rows[Line.SETTLEMENT])
            connection.execute("COMMIT")
        counts = [(*group, one["calls"], one["input"], one["output"]) for group, one in sums.items()]
        connection.executemany("INSERT INTO rollups VALUES (?,?,?,?,?,?,?,?,?,?)", counts)
        connection.execute("UPDATE chain_head SET position = ?, hash = ?", (head.position, head.hash))
        connection.execute("PRAGMA journal_mode=WAL")


def _lines(
    start: int, end: int, calls: int, sums: dict[tuple[Any, ...], Counter[str]]
) -> Iterator[tuple[Line, dict[str, Any]]]:
    for number in range(start, end):
        at = FIRST + timedelta(seconds=number * DAYS * 86_400 / calls)
        key, (model, served), reason = number % KEYS, MODELS[number % 3], REASONS[number % len(REASONS)]
        request_id = f"{number * 2654435761 % 2**32:08x}-{number:08x}"
        tokens = (40 + number % 100, number % 512)
        reserved = (request_id, key, f"key-{key}", None, model, served, tokens[0], 512, at)
        settled = (request_id, *tokens, reason, 0.0, 0.05, at)
        yield Line.RESERVATION, dict(zip(FIELDS[Line.RESERVATION], reserved, strict=True))
        yield Line.SETTLEMENT, dict(zip(FIELDS[Line.SETTLEMENT], settled, strict=True))
        for unit, span in (("day", f"{at:%Y-%m-%d}"), ("hour", f"{at:%Y-%m-%dT%H}")):
            one = sums.setdefault((unit, span, key, f"key-{key}", model, served, reason), Counter())
            one.update(calls=1, input=tokens[0], output=tokens[1])


def _cell(value: object) -> object:
    return value.strftime(_MOMENT) if isinstance(value, datetime) else value


if __name__ == "__main__":
    asyncio.run(fill(Path(sys.argv[1]), int(sys.argv[2])))
