"""What a JSON schema may ask of plain values, and how a refusal says where; for wire/json_schema.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dashbelle.errors import InvalidParameter

MAX_ITEMS = 1000
"""What minItems and maxItems may say."""
MAX_INTEGERS = 1000
"""How many the bounds of an integer may leave."""
MAX_INTEGER = 2**53
"""Engines read numbers as doubles."""
_PLACE_LENGTH = 200
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_DATE = f"[12][0-9]{{3}}-{_DAY}"
"""Every date of two millennia but the 29th of February."""
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_FORMATS = {
    # The engine knows these by name, but its own patterns allow minute 60 and quotes that end the string.
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "email": rf"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@{_LABEL}(\.{_LABEL})+",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "ipv4": r"((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])",
}

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
    "string": {"format"},
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
    """A string, in its format if that is one of ours; any other is a note to the reader. Raises InvalidParameter."""
    name = rules.get("format")
    if not isinstance(name, str | None):
        raise refused(place, 'must have a string as its "format"')
    pattern = _FORMATS.get(name or "")
    return {"type": "string", "pattern": f"^{pattern}$"} if pattern else {"type": "string"}


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
    """A bound of an array's length. Raises InvalidParameter."""
    value = rules[key]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ITEMS:
        raise refused(place, f'must have an integer in [0, {MAX_ITEMS}] as its "{key}"')
    return value


def allow(rules: Node, known: set[str], place: str) -> None:
    """Refuse the first keyword that is not among the known ones. Raises InvalidParameter."""
    for key in rules:
        if key not in known:
            raise refused(place, f"has the keyword {key[:64]!r}, which is not supported there")


def refused(place: str, why: str) -> InvalidParameter:
    """The refusal of the schema at `place`, a JSON pointer."""
    return InvalidParameter(f"Invalid schema of response_format: {place[:_PLACE_LENGTH]} {why}.")
