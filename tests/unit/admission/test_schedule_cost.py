"""What each operation of the schedule costs, in bytecodes: with 10,000 keys and 1,000 waiting calls as with ten."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from steps import steps_of

from dashbelle.admission.schedule import Schedule, Visit
from dashbelle.errors import QueueFull

FAR = 1e9
Operation = Callable[[Schedule], object]


def line_with(keys: int, waiting: int) -> Schedule:
    """One slot, held by ticket 0; `keys` keys known; `waiting` calls in the line, of as many keys as there are."""
    schedule = Schedule(slots=1, places=waiting + 2)
    ticket = -1
    for key in range(keys):
        schedule.arrive(ticket, Visit(key), 0.0)
        schedule.finish(ticket, 0.0, 100)
        ticket -= 1
    schedule.arrive(0, Visit(0), 0.0)
    for number in range(1, waiting + 1):
        schedule.arrive(number, Visit(number % keys, max_output_tokens=number % 97, deadline=FAR + number), 0.0)
    assert schedule.waiting == waiting
    return schedule


def first(line: Schedule) -> int:
    """The ticket that is next."""
    return next(iter(line._accounts[line._order.least[1]].waiting))


def tickets(line: Schedule) -> list[int]:
    """All that wait, in the order of arrival."""
    return list(line._key_of)


OPERATIONS: dict[str, Operation] = {
    "a new key arrives": lambda line: line.arrive(10**6, Visit(10**6), 0.0),
    "a known key arrives": lambda line: line.arrive(10**6 + 1, Visit(1, deadline=FAR), 0.0),
    "a call finishes and the next starts": lambda line: line.finish(0, 1.0, 500),
    "the first gives up": lambda line: line.leave(first(line), 1.0),
    "one in the middle gives up": lambda line: line.leave(tickets(line)[line.waiting // 2], 1.0),
    "the last gives up": lambda line: line.leave(tickets(line)[-1], 1.0),
    "time passes": lambda line: line.tick(1.0),
    "one waits too long": lambda line: line.tick(FAR),
    "one asks for its place": lambda line: line.outlook(tickets(line)[-1]),
    "room is asked for": lambda line: line.check_room(Visit(5)),
}
LEVEL = 100
"""Bytecodes that a level of a heap costs at most."""


@pytest.mark.parametrize(("keys", "waiting"), [(10_000, 1000), (1, 1000), (1000, 1000)])
def test_an_operation_costs_no_more_with_thousands_than_with_ten(keys: int, waiting: int) -> None:
    small, large = line_with(min(keys, 10), 10), line_with(keys, waiting)
    for name, operation in OPERATIONS.items():
        few, many = steps_of(lambda: operation(small)), steps_of(lambda: operation(large))  # noqa: B023 - called at once
        # At most three heaps change, of up to 10,000 entries instead of 10: ten levels more.
        assert 0 < many <= few + 3 * 10 * LEVEL, name


def test_a_refusal_costs_as_little() -> None:
    def refused(line: Schedule) -> None:
        with pytest.raises(QueueFull):
            line.arrive(10**6 + 1, Visit(3), 0.0)

    costs = []
    for keys, waiting in ((10, 10), (10_000, 1000)):
        line = line_with(keys, waiting)
        for ticket in (10**6, 10**6 + 2):
            line.arrive(ticket, Visit(ticket), 0.0)
        costs.append(steps_of(lambda line=line: refused(line)))  # type: ignore[misc]
    assert costs[1] == costs[0]


def test_no_single_operation_pays_for_thousands_that_have_gone() -> None:
    """2,000 keys came once; then the round moves on and all of them may be forgotten."""
    line = line_with(2000, 1)
    costs = []
    for number in range(10**6, 10**6 + 1500):
        line.arrive(number, Visit(10**6 + number % 2, max_output_tokens=99), 0.0)
        running = next(iter(line._running))
        costs.append(steps_of(lambda running=running: line.finish(running, 0.0, 100)))  # type: ignore[misc]
    assert max(costs) < 30 * LEVEL
    assert len(line._accounts) < 20
