"""The chain: the same bytes for the same line for ever, and a hash that covers everything before it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dashbelle.metering.chain import START, Head, Line, NotAHead, content
from dashbelle.metering.lines import Reservation, Settlement
from dashbelle.vocabulary import EndReason

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
RESERVATION = Reservation("r-1", 7, "ci", None, "belle", "模型", 8, 100, NOON)
SETTLEMENT = Settlement("r-1", 8, 3, EndReason.STOP, 0.25, 1 / 3, NOON + timedelta(microseconds=1))


def test_the_content_of_a_line_never_changes_its_form() -> None:
    assert content(Line.RESERVATION, 1, asdict(RESERVATION)) == (
        b'["reservation",1,"r-1",7,"ci",null,"belle","\\u6a21\\u578b",8,100,"2026-01-31T12:00:00.000000+00:00"]'
    )
    assert content(Line.SETTLEMENT, 2, asdict(SETTLEMENT)) == (
        b'["settlement",2,"r-1",8,3,"stop",0.25,0.3333333333333333,"2026-01-31T12:00:00.000001+00:00"]'
    )


def test_a_moment_is_the_same_wherever_it_was_read() -> None:
    beijing = replace(RESERVATION, started_at=NOON.astimezone(timezone(timedelta(hours=8))))
    assert content(Line.RESERVATION, 1, asdict(beijing)) == content(Line.RESERVATION, 1, asdict(RESERVATION))


def test_a_hash_covers_its_line_and_the_hash_before_it() -> None:
    first = START.next(Line.RESERVATION, asdict(RESERVATION))
    second = first.next(Line.SETTLEMENT, asdict(SETTLEMENT))
    assert first.position == 1
    assert first.hash == hashlib.sha256(bytes(32) + content(Line.RESERVATION, 1, asdict(RESERVATION))).digest()
    assert second.hash == hashlib.sha256(first.hash + content(Line.SETTLEMENT, 2, asdict(SETTLEMENT))).digest()


def test_a_head_is_read_as_it_is_written() -> None:
    head = START.next(Line.RESERVATION, asdict(RESERVATION))
    assert Head.parse(str(head)) == head


@pytest.mark.parametrize("text", ["", "1", "1:", "1:xyz", f"-1:{'0' * 64}", f"x:{'0' * 64}", f"1:{'0' * 62}"])
def test_anything_else_is_no_head(text: str) -> None:
    with pytest.raises(NotAHead):
        Head.parse(text)
