"""The sliding minute, against a list of everything that was ever charged."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from dashbelle.admission.window import CELLS_PER_S, WINDOW_S, Window

CELL_S = 1 / CELLS_PER_S
moments = st.floats(0, 40, allow_nan=False, allow_infinity=False)


def test_a_charge_counts_for_sixty_seconds_and_an_eighth_at_most() -> None:
    for moment in (0.0, 0.1, 0.124, 99.99):
        window = Window()
        window.charge(5, moment)
        assert window.total(moment + WINDOW_S) == 5
        assert window.total(moment + WINDOW_S + CELL_S) == 0


def test_what_was_charged_can_be_put_right_while_it_counts() -> None:
    window = Window()
    cell = window.charge(100, 10.0)
    window.charge(7, 10.01)
    window.amend(cell, -90)
    assert window.total(20.0) == 17
    assert window.total(71.0) == 0
    window.amend(cell, -10)
    assert window.total(71.0) == 0


def test_a_charge_taken_back_leaves_nothing() -> None:
    window = Window()
    window.amend(window.charge(3, 1.0), -3)
    assert (window.total(1.0), window.empty_in(1.0), window.frees_in(1, 1.0)) == (0, 0.0, None)


def test_a_clock_that_goes_back_frees_nothing_early_and_mixes_nothing_up() -> None:
    window = Window()
    old = window.charge(5, 1000.0)
    assert window.total(1100.0) == 0
    window.charge(3, 1000.0)
    window.amend(old, -5)
    assert window.total(1000.0) == 3
    assert window.total(1160.0) == 3
    assert window.total(1161.0) == 0


def test_memory_is_bounded_however_much_comes() -> None:
    window = Window()
    for number in range(100_000):
        window.charge(1, number / 500)
        window.total(number / 500)
    assert len(window._cells) <= WINDOW_S * CELLS_PER_S + 1


@given(st.lists(st.tuples(moments, st.integers(1, 9), st.integers(0, 9)), max_size=30))
def test_a_total_lies_between_what_sixty_seconds_hold_and_what_an_eighth_more_does(
    charges: list[tuple[float, int, int]],
) -> None:
    window = Window()
    now = 0.0
    log: list[tuple[float, int]] = []
    for gap, amount, truth in charges:
        now += gap
        window.total(now)
        cell = window.charge(amount, now)
        window.amend(cell, truth - amount)
        log.append((now, truth))
        total = window.total(now)
        assert sum(charged for moment, charged in log if moment >= now - WINDOW_S) <= total
        assert total <= sum(charged for moment, charged in log if moment > now - WINDOW_S - CELL_S)


@given(st.lists(st.tuples(moments, st.integers(1, 9)), min_size=1, max_size=20), st.data())
def test_it_frees_when_it_said_and_not_before(charges: list[tuple[float, int]], data: st.DataObject) -> None:
    window = Window()
    now = 0.0
    for gap, amount in charges:
        now += gap
        window.charge(amount, now)
    before = window.total(now)
    wanted = data.draw(st.integers(1, before))
    wait_s = window.frees_in(wanted, now)
    assert wait_s is not None
    assert 0 < wait_s <= window.empty_in(now)
    almost = math.nextafter(now + wait_s, -math.inf)
    assert Window.total(window, almost) > before - wanted
    assert window.total(now + wait_s) <= before - wanted
    assert window.frees_in(before + 1, now) is None
