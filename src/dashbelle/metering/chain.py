"""The chain of the ledger's lines: each hash covers its line and the hash before it; pure, knows no database."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self


class Line(StrEnum):
    """The kinds of lines."""

    RESERVATION = "reservation"
    SETTLEMENT = "settlement"


FIELDS: Mapping[Line, Sequence[str]] = {
    Line.RESERVATION: (
        "request_id",
        "key_id",
        "key_name",
        "workspace",
        "model",
        "served_model",
        "input_tokens",
        "max_output_tokens",
        "started_at",
    ),
    Line.SETTLEMENT: (
        "request_id",
        "input_tokens",
        "output_tokens",
        "end_reason",
        "queue_s",
        "first_token_s",
        "ended_at",
    ),
}
"""What is hashed of a line, in this order. It can never change: old lines would not verify any more."""


_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


class NotAHead(ValueError):
    """A text that stands for no head."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest line's place, counted from 1, and its hash; it stands for all lines before it."""

    position: int
    hash: bytes

    def next(self, line: Line, values: Mapping[str, Any]) -> Self:
        """The head after `line` with these values was added."""
        position = self.position + 1
        return type(self)(position, hashlib.sha256(self.hash + content(line, position, values)).digest())

    def __str__(self) -> str:
        return f"{self.position}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From what `str` made. Raises NotAHead."""
        parts = _HEAD.fullmatch(text)
        if parts is None:
            raise NotAHead(text)
        return cls(int(parts[1]), bytes.fromhex(parts[2]))


START = Head(0, bytes(32))


def content(line: Line, position: int, values: Mapping[str, Any]) -> bytes:
    """What is hashed: a JSON array of the kind, the place and the values; moments as UTC with microseconds.

    As Python's json writes it without spaces, in ASCII: the same bytes on every database and in every version.
    """
    cells = [_cell(values[name]) for name in FIELDS[line]]
    return json.dumps([line.value, position, *cells], separators=(",", ":")).encode()


def _cell(value: Any) -> Any:  # noqa: ANN401 - whatever a column holds
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value
