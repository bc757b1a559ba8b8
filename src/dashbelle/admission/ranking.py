"""Two indexes for the schedule, both O(log n): items by a rank that may change, and how many lines reach a depth."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Rank = tuple[float, ...]

_Item = TypeVar("_Item", bound=Hashable)


class Ranking(Generic[_Item]):
    """Each item once, the least rank first.

    A binary heap that knows where each item is, instead of one with stale entries: no operation ever pays for the
    tidying up of thousands.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, _Item]] = []
        self._index: dict[_Item, int] = {}

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def least(self) -> tuple[Rank, _Item]:
        """The first item and its rank. Raises IndexError if there is none."""
        return self._heap[0]

    def put(self, item: _Item, rank: Rank) -> None:
        """Add the item, or move it to another rank."""
        index = self._index.setdefault(item, len(self._heap))
        if index == len(self._heap):
            self._heap.append((rank, item))
        self._settle(index, (rank, item))

    def discard(self, item: _Item) -> None:
        """Remove the item, if it is there."""
        index = self._index.pop(item, None)
        if index is None:
            return
        last = self._heap.pop()
        if index < len(self._heap):
            self._settle(index, last)

    def _settle(self, index: int, entry: tuple[Rank, _Item]) -> None:
        """Move others out of the way, upwards or downwards, until `entry` stands in order."""
        heap = self._heap
        while index and entry[0] < heap[(index - 1) // 2][0]:
            index = self._move((index - 1) // 2, index)
        while (child := 2 * index + 1) < len(heap):
            if child + 1 < len(heap) and heap[child + 1][0] < heap[child][0]:
                child += 1
            if entry[0] <= heap[child][0]:
                break
            index = self._move(child, index)
        heap[index] = entry
        self._index[entry[1]] = index

    def _move(self, source: int, target: int) -> int:
        entry = self._heap[source]
        self._heap[target] = entry
        self._index[entry[1]] = target
        return source


class Depths:
    """How many lines are at least 1, 2, 3 ... long; a Fenwick tree, so that sums over depths cost O(log levels)."""

    def __init__(self, levels: int) -> None:
        self._tree = [0] * (levels + 1)

    @property
    def levels(self) -> int:
        """The deepest level that is counted."""
        return len(self._tree) - 1

    def add(self, depth: int, change: int) -> None:
        """Note that `change` more lines reach `depth`. Beyond `levels` nothing is counted."""
        while depth < len(self._tree):
            self._tree[depth] += change
            depth += depth & -depth

    def total(self, depth: int) -> int:
        """How many waiting calls stand at `depth` or nearer to the front, over all lines."""
        depth = min(depth, self.levels)
        total = 0
        while depth:
            total += self._tree[depth]
            depth &= depth - 1
        return total
