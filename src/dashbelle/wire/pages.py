"""Which page of a list was asked for, the same on every route that lists."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import QueryParams

from dashbelle.errors import InvalidParameter

MAX_NUMBER = 1_000_000
MAX_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its number, from 1, and how many entries a page holds."""

    number: int
    size: int

    @property
    def start(self) -> int:
        """How many entries come before it."""
        return (self.number - 1) * self.size


def page_of(query: QueryParams) -> Page:
    """The page of `page_no` and `page_size`, by default the first ten. Raises InvalidParameter."""
    return Page(_integer(query, "page_no", 1, MAX_NUMBER), _integer(query, "page_size", 10, MAX_SIZE))


def _integer(query: QueryParams, name: str, default: int, limit: int) -> int:
    given = query.get(name, str(default))
    value = int(given) if given.isascii() and given.isdecimal() and len(given) <= len(str(limit)) else 0
    if not 1 <= value <= limit:
        raise InvalidParameter(f"Range of {name} should be [1, {limit}]")
    return value
