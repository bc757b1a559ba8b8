"""10,000 seeded days of schedule and limits, every rule checked after every event; and each rule broken once, found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from broken_parts import BROKEN
from gateway import Parts, RuleBroken
from world import World

PATIENCE = 3000
"""Schedules within which a broken rule must be found."""


def test_no_rule_is_broken_in_any_schedule(seeds: range) -> None:
    for seed in seeds:
        world = World(seed)
        world.play()
    if len(seeds) == 1:
        print("\n".join(world.trace))


def test_the_same_seed_plays_the_same_day() -> None:
    for seed in range(20):
        first, second = World(seed), World(seed)
        first.play()
        second.play()
        assert first.trace == second.trace


def name_of(parts: Parts) -> str:
    return next(part.__name__ for part in (parts.schedule, parts.limiter, parts.gateway) if "broken" in part.__module__)


def schedules_needed(parts: Parts) -> tuple[int, str]:
    """How many schedules it takes until a rule is seen broken, and what was said then."""
    for seed in range(PATIENCE):
        try:
            World(seed, parts).play()
        except RuleBroken as error:
            return seed + 1, str(error)
    return PATIENCE + 1, ""


@pytest.mark.parametrize("parts", BROKEN, ids=name_of)
def test_a_broken_rule_is_found(parts: Parts, record_property: Callable[[str, object], None]) -> None:
    needed, said = schedules_needed(parts)
    record_property("schedules", needed)
    assert needed <= PATIENCE, f"{name_of(parts)} was not found"
    assert "--seed" in said
    print(f"{name_of(parts)}: {needed} schedules; {said.splitlines()[0]}")
