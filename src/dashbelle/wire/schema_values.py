"""What a JSON schema may ask of plain values, and how a refusal says where; for wire/json_schema.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dashbelle.errors import InvalidParameter

MAX_COUNT = 1000
"""What the bounds of an array's or a string's length may say."""
MAX_INTEGERS = 1000
"""How many the bounds of an integer may leave."""
MAX_INTEGER = 2**53
"""Engines read numbers as doubles."""
_PLACE_LENGTH = 200
Node = dict[str, Any]

TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in {int, float},
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
KEYWORDS: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"format", "minLength", "maxLength"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": set(),
    "boolean": set(),
    "null": set(),
}


def read_types(rules: Node, place: str) -> list[str]:
    """What `type` says, as a list. Raises InvalidParameter."""
    given = rules.get("type")
    kinds = given if isinstance(given, list) else [given]
    if not kinds or not all(isinstance(kind, str) and kind in TYPES for kind in kinds):
        raise refused(place, f'must have a "type" out of {", ".join(TYPES)}')
    return list(dict.fromkeys(kinds))


def read_string(rules: Node, place: str) -> Node:
    """A string; an engine keeps to its format if it knows it. Raises InvalidParameter."""
    name = rules.get("format")
    if not isinstance(name, str | None):
        raise refused(place, 'must have a string as its "format"')
    lengths: Node = {key: read_count(rules, key, place) for key in ("minLength", "maxLength") if key in rules}
    if name is not None and lengths:
        raise refused(place, 'must not have bounds of its length beside a "format"')
    if lengths.get("minLength", 0) > lengths.get("maxLength", MAX_COUNT):
        raise refused(place, "leaves no string")
    return {"type": "string", **lengths} if name is None else {"type": "string", "format": name}


def read_integer(rules: Node, place: str) -> Node:
    """An integer: any, from 0 or 1 on, or one of a few, which are listed. Raises InvalidParameter.

    Engines turn other bounds into grammars that let numbers beyond them through.
    """
    low, high = _bound(rules, "minimum", 0, place), _bound(rules, "maximum", 0, place)
    low = max(
        (bound for bound in (low, _bound(rules, "exclusiveMinimum", 1, place)) if bound is not None), default=None
    )
    high = min(
        (bound for bound in (high, _bound(rules, "exclusiveMaximum", -1, place)) if bound is not None), default=None
    )
    if low is None and high is None:
        return {"type": "integer"}
    if high is None and low in {0, 1}:
        return {"type": "integer", "minimum": low}
    if low is None or high is None or high - low >= MAX_INTEGERS:
        raise refused(place, f"must leave at most {MAX_INTEGERS} integers, or all from 0 or 1 on")
    if high < low:
        raise refused(place, "leaves no integer")
    return {"enum": list(range(low, high + 1))}


def _bound(rules: Node, key: str, step: int, place: str) -> int | None:
    """The first or last integer that `key` lets through."""
    value = rules.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        raise refused(place, f'must have an integer within {MAX_INTEGER} of 0 as its "{key}"')
    return value + step


def read_count(rules: Node, key: str, place: str) -> int:
    """A bound of a length. Raises InvalidParameter."""
    value = rules[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise refused(place, f'must have an integer in [0, {MAX_COUNT}] as its "{key}"')
    return value


def allow(rules: Node, known: set[str], place: str) -> None:
    """Refuse the first keyword that is not among the known ones. Raises InvalidParameter."""
    for key in rules:
        if key not in known:
            raise refused(place, f"has the keyword {key[:64]!r}, which is not supported there")


def refused(place: str, why: str) -> InvalidParameter:
    """The refusal of the schema at `place`, a JSON pointer."""
    return InvalidParameter(f"Invalid schema of response_format: {place[:_PLACE_LENGTH]} {why}.")
