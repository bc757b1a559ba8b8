"""Reports: exact keys in an exact order, UTC, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dashbelle.metering.ledger import Sum
from dashbelle.metering.report import csv_header, csv_line, json_line, sum_rows
from dashbelle.vocabulary import EndReason, Receipt

RECEIPT = Receipt(
    request_id="5d3c",
    key="ci",
    model="belle-llama-13b-2m-v1",
    served_model="smollm2-135m-instruct",
    input_tokens=8,
    output_tokens=3,
    end_reason=EndReason.CLIENT_GONE,
    started_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
    ended_at=datetime(2026, 1, 31, 20, 0, 1, 500000, timezone(timedelta(hours=8))),
)


def test_a_receipt_is_one_json_object_on_one_line() -> None:
    assert json_line(RECEIPT) == (
        '{"request_id": "5d3c", "key": "ci", "model": "belle-llama-13b-2m-v1", '
        '"served_model": "smollm2-135m-instruct", "input_tokens": 8, "output_tokens": 3, '
        '"end_reason": "client_gone", "started_at": "2026-01-31T12:00:00.000000Z", '
        '"ended_at": "2026-01-31T12:00:01.500000Z"}\n'
    )


def test_a_json_line_stays_one_line_whatever_a_name_holds() -> None:
    hostile = replace(RECEIPT, model='a"\n\u2028模型')
    line = json_line(hostile)
    assert line.splitlines() == [line[:-1]]
    assert json.loads(line)["model"] == hostile.model


def test_csv_has_the_columns_of_json() -> None:
    (row,) = csv.DictReader([csv_header(), csv_line(RECEIPT)])
    assert row == {name: str(value) for name, value in json.loads(json_line(RECEIPT)).items()}
    assert list(row) == list(json.loads(json_line(RECEIPT)))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_csv_cell_is_never_a_formula(start: str) -> None:
    name = f'{start}cmd|"/c calc"!A1,x'
    hostile = replace(RECEIPT, request_id=name, key=name, model=name, served_model=name)
    (row,) = csv.reader([csv_line(hostile)])
    assert row[:4] == [f"'{name}"] * 4


def test_an_ordinary_csv_cell_is_left_alone() -> None:
    (row,) = csv.reader([csv_line(replace(RECEIPT, key="a=b", model="x,y"))])
    assert row[1:3] == ["a=b", "x,y"]


def test_sums_end_with_their_total() -> None:
    rows = sum_rows([Sum("2026-01-31", 2, 1_000, 6), Sum("2026-02-01", 1, 8, 3)])
    assert rows == [
        ("2026-01-31", "2", "1,000", "6"),
        ("2026-02-01", "1", "8", "3"),
        ("total", "3", "1,008", "9"),
    ]
