"""The schedule's two indexes, against the obvious way to do it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.admission.ranking import Depths, Ranking

Act = tuple[str, int, int]


def test_an_empty_ranking_has_no_least() -> None:
    with pytest.raises(IndexError):
        _ = Ranking[str]().least


@given(st.lists(st.tuples(st.sampled_from(["put", "put", "discard"]), st.integers(0, 20), st.integers(0, 9))))
def test_the_least_is_the_least_whatever_was_put_moved_and_discarded(acts: list[Act]) -> None:
    ranking: Ranking[int] = Ranking()
    expected: dict[int, tuple[int]] = {}
    for act, item, rank in acts:
        if act == "put":
            ranking.put(item, (rank,))
            expected[item] = (rank,)
        else:
            ranking.discard(item)
            expected.pop(item, None)
        assert len(ranking) == len(expected)
        if expected:
            assert ranking.least[0] == min(expected.values())
            assert expected[ranking.least[1]] == ranking.least[0]
    emptied = []
    while ranking:
        emptied.append(ranking.least[0])
        ranking.discard(ranking.least[1])
    assert emptied == sorted(expected.values())


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(0, 15))
def test_a_total_counts_the_calls_down_to_a_depth(lengths: list[int], depth: int) -> None:
    depths = Depths(10)
    for length in lengths:
        for level in range(1, length + 1):
            depths.add(level, 1)
    assert depths.total(depth) == sum(min(length, depth, 10) for length in lengths)
    for length in lengths:
        depths.add(length, -1) if length else None
    assert depths.total(depth) == sum(min(max(length - 1, 0), depth, 10) for length in lengths)
