"""Receipts as JSON lines and CSV, sums as rows; pure text, it reads no ledger."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime

from dashbelle.metering.ledger import Sum
from dashbelle.vocabulary import Receipt

COLUMNS = tuple(column.name for column in fields(Receipt))
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def json_line(receipt: Receipt) -> str:
    """One JSON object on one line, its keys in the order of COLUMNS."""
    return json.dumps(_values(receipt)) + "\n"


def csv_header() -> str:
    """The first line of a CSV report."""
    return _csv(COLUMNS)


def csv_line(receipt: Receipt) -> str:
    """One CSV line; no cell of it is a formula to a spreadsheet."""
    return _csv([_inert(str(value)) for value in _values(receipt).values()])


def sum_rows(sums: Sequence[Sum]) -> list[tuple[str, str, str, str]]:
    """Group, calls, input tokens, output tokens; the last row is the total."""
    total = Sum(
        "total",
        sum(one.calls for one in sums),
        sum(one.input_tokens for one in sums),
        sum(one.output_tokens for one in sums),
    )
    return [(one.group, f"{one.calls:,}", f"{one.input_tokens:,}", f"{one.output_tokens:,}") for one in (*sums, total)]


def _values(receipt: Receipt) -> dict[str, str | int]:
    values = {name: getattr(receipt, name) for name in COLUMNS}
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in values.items()}


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, e.g. 2026-01-31T12:00:00.000000Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _inert(cell: str) -> str:
    """OWASP's rule against CSV injection: a leading quote makes a spreadsheet show the cell instead of running it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _csv(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
