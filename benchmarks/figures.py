"""One measured figure and its arithmetic; knows no clock, no process and no way of printing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Self

ENOUGH_FOR_P99 = 50
Verdict = Literal["ok", "MISSED", "-"]


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, once per run or call, and what its median may be at most (None: it is only reported)."""

    name: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None
    samples: int = 0
    """How many measurements a value sums up, where that is more than the values themselves."""

    @classmethod
    def of_percentile(
        cls, name: str, unit: str, samples: Sequence[float], percent: float, target: float | None = None
    ) -> Self:
        """A figure whose only value is a percentile of `samples`."""
        return cls(name, unit, (percentile(samples, percent),), target, len(samples))

    @property
    def median(self) -> float:
        """The middle value, which is what the target speaks of."""
        return median(self.values)

    @property
    def p99(self) -> float | None:
        """What 99 of 100 values do not exceed; None when there are too few to say."""
        return percentile(self.values, 99) if len(self.values) >= ENOUGH_FOR_P99 else None

    @property
    def runs(self) -> int:
        """How many measurements lie behind it."""
        return self.samples or len(self.values)

    @property
    def verdict(self) -> Verdict:
        """Whether the median keeps the target."""
        if self.target is None:
            return "-"
        return "ok" if self.median <= self.target else "MISSED"


def percentile(samples: Sequence[float], percent: float) -> float:
    """The value that `percent` of 100 of the samples do not exceed, interpolated between neighbours.

    Raises ValueError when there is no sample.
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
