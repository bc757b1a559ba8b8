"""A sliding minute: what was charged in the last 60 s, exactly put right afterwards; O(1) memory, time is passed in."""

from __future__ import annotations

import math
from collections import OrderedDict

WINDOW_S = 60
CELLS_PER_S = 8
"""Charges of the same eighth of a second are one sum, and are dropped together when the last of them is 60 s old: a
window holds at most 481 sums however much comes. A power of two, so that no rounding can drop a charge too early."""


class Window:
    """What was charged in the last 60 s. A charge counts for at least 60 s and at most an eighth of a second longer."""

    __slots__ = ("_cells", "_latest", "_total")

    def __init__(self) -> None:
        self._cells: OrderedDict[int, int] = OrderedDict()
        self._latest = -math.inf
        self._total = 0

    def total(self, now: float) -> int:
        """What counts now."""
        oldest = self._cell(now) - WINDOW_S * CELLS_PER_S
        while self._cells and (first := next(iter(self._cells))) < oldest:
            self._total -= self._cells.pop(first)
        return self._total

    def charge(self, amount: int, now: float) -> int:
        """Count `amount` from now on; the cell to `amend` it in. A clock that goes back stands."""
        cell = self._cell(now)
        self._cells[cell] = self._cells.get(cell, 0) + amount
        self._total += amount
        return cell

    def amend(self, cell: int, change: int) -> None:
        """Put right what was charged there, if it still counts."""
        if cell in self._cells:
            self._cells[cell] += change
            self._total += change
            if self._cells[cell] == 0:
                del self._cells[cell]

    def frees_in(self, amount: int, now: float) -> float | None:
        """Seconds until at least `amount` will have been dropped, if nothing is amended; None: never."""
        freed = 0
        for cell, charged in self._cells.items():
            freed += charged
            if freed >= amount:
                return self._dropped_in(cell, now)
        return None

    def empty_in(self, now: float) -> float:
        """Seconds until nothing counts any more."""
        return self._dropped_in(next(reversed(self._cells)), now) if self._cells else 0.0

    @staticmethod
    def _dropped_in(cell: int, now: float) -> float:
        return (cell + WINDOW_S * CELLS_PER_S + 1) / CELLS_PER_S - now

    def _cell(self, now: float) -> int:
        self._latest = max(self._latest, math.floor(now * CELLS_PER_S))
        return int(self._latest)
