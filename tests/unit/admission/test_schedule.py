"""The schedule: whose turn it is, in tokens, and that nobody waits for ever."""

from __future__ import annotations

from collections import Counter, deque
from itertools import count

import pytest

from dashbelle.admission.schedule import LEAST_TOKENS, LONGEST_RETRY_S, Moves, Schedule, Visit
from dashbelle.errors import QueueFull


class Line:
    """A schedule whose tickets are counted, whose calls end in the order in which they began."""

    def __init__(self, slots: int = 1, places: int = 1000, places_per_key: int | None = None) -> None:
        self.schedule = Schedule(slots, places, places_per_key)
        self.now = 0.0
        self.visits: dict[int, Visit] = {}
        self.started: list[int] = []
        self.expired: list[int] = []
        self.running: deque[int] = deque()
        self._tickets = count()

    def come(self, key: int, **wishes: float) -> int:
        ticket = next(self._tickets)
        visit = Visit(key, **wishes)  # type: ignore[arg-type]
        self._take(self.schedule.arrive(ticket, visit, self.now), ticket, visit)
        return ticket

    def end(self, used_tokens: int | None = None, ticket: int | None = None) -> int:
        """The oldest running call, or `ticket`, ends; it used all that it might, or `used_tokens`."""
        ended = self.running[0] if ticket is None else ticket
        self.running.remove(ended)
        visit = self.visits[ended]
        used = visit.input_tokens + visit.max_output_tokens if used_tokens is None else used_tokens
        self._take(self.schedule.finish(ended, self.now, used))
        return ended

    def leave(self, ticket: int) -> None:
        self._take(self.schedule.leave(ticket, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._take(self.schedule.tick(self.now))

    def keys(self, tickets: list[int]) -> list[int]:
        return [self.visits[ticket].key for ticket in tickets]

    def _take(self, moves: Moves, ticket: int | None = None, visit: Visit | None = None) -> None:
        if ticket is not None and visit is not None:
            self.visits[ticket] = visit
        self.started += moves.started
        self.running += moves.started
        self.expired += moves.expired


def busy_line(slots: int = 1, waiting: int = 100, **wishes: float) -> Line:
    """Key 1 holds all slots, and `waiting` more of its calls stand in the line."""
    line = Line(slots)
    for _ in range(slots + waiting):
        line.come(1, **wishes)
    assert (line.schedule.busy, line.schedule.waiting) == (slots, waiting)
    return line


def test_calls_of_one_key_start_in_the_order_of_their_arrival() -> None:
    line = Line(slots=2)
    tickets = [line.come(1) for _ in range(5)]
    assert line.started == tickets[:2]
    for _ in tickets:
        line.end()
    assert line.started == tickets
    assert (line.schedule.busy, line.schedule.waiting) == (0, 0)


@pytest.mark.parametrize("slots", [1, 4, 16])
@pytest.mark.parametrize("used_tokens", [1, 100, 2000])
@pytest.mark.parametrize("ended", [0, 1, 30])
def test_a_hundred_waiting_calls_delay_another_keys_first_by_one_slot_at_most(
    slots: int, used_tokens: int, ended: int
) -> None:
    line = busy_line(slots, input_tokens=10, max_output_tokens=1990)
    for _ in range(ended):
        line.end(used_tokens)
    first = line.come(2, input_tokens=10, max_output_tokens=1990)
    assert first not in line.started
    line.end(used_tokens)
    assert line.started[-1] == first


def test_many_new_keys_come_in_the_order_of_their_first_calls() -> None:
    line = busy_line(slots=1)
    firsts = [line.come(key) for key in range(2, 50)]
    for _ in firsts:
        line.end()
    assert line.started[-len(firsts) :] == firsts


def test_keys_with_equal_calls_take_turns() -> None:
    line = busy_line(slots=1, waiting=10)
    for _ in range(10):
        line.come(2)
    for _ in range(10):
        line.end()
    assert line.keys(line.started[1:11]) == [2, 1] * 5


def test_what_counts_is_tokens_not_calls() -> None:
    line = Line(slots=2)
    for _ in range(200):
        line.come(1, input_tokens=100, max_output_tokens=300)
        line.come(2, input_tokens=50, max_output_tokens=50)
    for _ in range(150):
        line.end()
    starts = Counter(line.keys(line.started))
    assert starts[1] == pytest.approx(30, abs=3)
    assert starts[2] == pytest.approx(120, abs=3)


def test_a_key_of_twice_the_share_gets_twice_the_tokens() -> None:
    line = Line(slots=2)
    for _ in range(200):
        line.come(1, max_output_tokens=99, share=2.0)
        line.come(2, max_output_tokens=99)
    for _ in range(120):
        line.end()
    starts = Counter(line.keys(line.started))
    assert starts[1] == pytest.approx(80, abs=3)


def test_asking_for_more_than_one_takes_costs_nothing() -> None:
    """A caller who sets no max_tokens is charged what its answers take, not what they might."""
    line = busy_line(slots=8, waiting=0)
    for _ in range(400):
        line.come(2, max_output_tokens=4000)
        line.come(3, max_output_tokens=100)
    for _ in range(400):
        line.end(used_tokens=101)
    starts = Counter(line.keys(line.started))
    assert starts[2] == pytest.approx(200, abs=20)


def test_what_is_learned_of_a_key_is_its_answers_not_its_prompts() -> None:
    """A long prompt says nothing of the next call's cost, whose own prompt is known."""
    line = Line(slots=1)
    for key in (1, 2):
        line.come(key, input_tokens=900, max_output_tokens=4000)
    line.end(used_tokens=910)
    line.end(used_tokens=910)
    assert line.schedule._output_mean == pytest.approx(10)
    assert line.schedule._accounts[2].output_mean == pytest.approx(10)


def test_what_a_key_took_while_nobody_else_waited_is_not_held_against_it() -> None:
    line = busy_line(slots=4, waiting=0, max_output_tokens=10)
    for _ in range(4):
        line.end(used_tokens=5000)
    for _ in range(4):
        line.come(3)
    mine = line.come(1, max_output_tokens=10)
    for _ in range(200):
        line.come(2, max_output_tokens=99)
    others = 0
    while mine not in line.started:
        line.end(used_tokens=100)
        others += 1
    assert others <= 5000 // 100 + 1  # one long call's worth, not four


def test_nothing_is_saved_up_while_a_key_is_away() -> None:
    line = Line(slots=1)
    line.come(2)
    for _ in range(50):
        line.come(1, max_output_tokens=99)
        line.end()
    for _ in range(20):
        line.come(1, max_output_tokens=99)
        line.come(2, max_output_tokens=99)
    for _ in range(20):
        line.end()
    starts = Counter(line.keys(line.started[-20:]))
    assert starts[2] == pytest.approx(10, abs=1)


def test_a_key_that_only_ran_meanwhile_has_saved_nothing_up_either() -> None:
    line = Line(slots=2)
    long_one = line.come(2)
    for _ in range(50):
        last = line.come(1, max_output_tokens=99)
        line.end(ticket=last)
    line.come(3)
    for _ in range(20):
        line.come(1, max_output_tokens=99)
        line.come(2, max_output_tokens=99)
    for _ in range(20):
        line.end(ticket=next(ticket for ticket in line.running if ticket != long_one))
    starts = Counter(line.keys(line.started[-20:]))
    assert starts[2] == pytest.approx(10, abs=1)


def test_short_calls_cost_enough_that_a_long_one_is_not_passed_for_ever() -> None:
    line = Line(slots=1)
    line.come(1, max_output_tokens=3199)
    line.come(2)
    line.end(used_tokens=3200)
    long_one = line.come(1, max_output_tokens=3199)
    passed = 0
    while long_one not in line.started and passed < 1000:
        line.come(2)
        line.end(used_tokens=0)  # cancelled before anything was computed
        passed += 1
    assert passed == pytest.approx(3200 / LEAST_TOKENS, abs=1)


def test_a_wide_call_waits_for_all_its_slots_and_those_behind_it_wait_too() -> None:
    line = Line(slots=2)
    line.come(1)
    wide, late = line.come(1, slots=2), line.come(1)
    assert line.schedule.busy == 1
    line.end()
    assert line.started[-1] == wide
    line.end()
    assert line.started[-1] == late


def test_a_wide_call_whose_turn_it_is_is_passed_by_nobody_who_was_served_as_much() -> None:
    line = Line(slots=4)
    for _ in range(4):
        line.come(1)
    wide = line.come(2, slots=4)
    behind = [line.come(3) for _ in range(8)]
    for _ in range(3):
        line.end()
        assert line.started[-1] < wide
    line.end()
    assert line.started[-1] == wide
    line.end()
    assert line.started[-4:] == behind[:4]


def test_a_wide_call_gets_its_turn_among_many_narrow_ones() -> None:
    line = Line(slots=4)
    for _ in range(50):
        line.come(1, max_output_tokens=99)
    wides = [line.come(2, slots=4, max_output_tokens=99) for _ in range(5)]
    for _ in range(40):
        line.end()
        line.come(1, max_output_tokens=99)
    assert set(wides) <= set(line.started)


def test_a_call_wider_than_all_slots_takes_all() -> None:
    line = Line(slots=2)
    line.come(1, slots=4)
    assert line.schedule.busy == 2
    line.end()
    assert line.schedule.busy == 0


def test_when_a_wide_call_gives_up_those_behind_it_go_ahead() -> None:
    line = Line(slots=2)
    line.come(1)
    wide, late = line.come(1, slots=2), line.come(1)
    line.leave(wide)
    assert line.started[-1] == late


def test_a_full_line_refuses_and_says_when_to_come_back() -> None:
    line = Line(slots=2, places=4)
    for _ in range(3):
        line.come(1)
        line.now += 8.0
        line.end()
    for _ in range(6):
        line.come(1)
    with pytest.raises(QueueFull, match="2 slots are busy and 4 calls wait") as refusal:
        line.come(2)
    assert refusal.value.retry_after_s == pytest.approx(5 * 8 / 2, rel=0.6)
    line.leave(max(line.visits))
    line.come(2)


def test_the_time_to_come_back_is_never_absurd() -> None:
    for held_s, expected in ((0.001, 1), (10_000.0, LONGEST_RETRY_S)):
        line = Line(slots=1, places=0)
        for _ in range(40):
            line.come(1)
            line.now += held_s
            line.end()
        line.come(1)
        with pytest.raises(QueueFull) as refusal:
            line.come(1)
        assert refusal.value.retry_after_s == expected


def test_one_key_cannot_take_all_places_where_they_are_bounded_per_key() -> None:
    line = Line(slots=1, places=10, places_per_key=3)
    for _ in range(4):
        line.come(1)
    with pytest.raises(QueueFull, match="3 calls of this key wait, as many as may") as refusal:
        line.come(1)
    assert refusal.value.retry_after_s == 4
    line.come(2)


def test_a_line_without_places_still_lets_calls_run() -> None:
    line = Line(slots=1, places=0)
    line.come(1)
    with pytest.raises(QueueFull):
        line.come(1)
    line.end()
    line.come(1)


def test_a_refused_call_leaves_no_trace() -> None:
    line = Line(slots=1, places=0)
    line.come(1)
    for key in range(2, 9):
        with pytest.raises(QueueFull):
            line.come(key)
    assert (line.schedule.waiting, line.schedule.busy, len(line.schedule._accounts)) == (0, 1, 1)


def test_waiting_ends_at_the_deadline() -> None:
    line = busy_line(slots=1, waiting=0)
    late, patient = line.come(1, deadline=5.0), line.come(1, deadline=9.0)
    assert line.schedule.next_deadline == 5.0
    line.wait(4.9)
    assert line.expired == []
    line.wait(0.1)
    assert line.expired == [late]
    assert line.schedule.next_deadline == 9.0
    line.end()
    assert line.started[-1] == patient
    assert line.schedule.next_deadline == float("inf")


def test_a_call_whose_time_is_over_never_starts() -> None:
    line = busy_line(slots=1, waiting=0)
    late = [line.come(1, deadline=5.0) for _ in range(3)]
    line.now = 1000.0  # the machine was asleep, and the end of a call is the first that is heard of it
    line.end()
    assert line.expired == late
    assert line.schedule.busy == 0
    stillborn = line.come(1, deadline=999.0)
    assert line.expired[-1] == stillborn
    assert line.schedule.busy == 0


def test_a_clock_that_goes_back_stands() -> None:
    line = busy_line(slots=1, waiting=0)
    line.wait(10.0)
    line.now = 0.0
    late = line.come(1, deadline=5.0)
    assert line.expired == [late]
    line.end()
    assert line.schedule._hold_s > 1.0


def test_place_and_wait_can_be_asked_for() -> None:
    line = busy_line(slots=2, waiting=10)
    hog = [ticket for ticket in line.visits if ticket not in line.started]
    assert [line.schedule.outlook(ticket).place for ticket in hog] == list(range(1, 11))
    newcomer = line.come(2)
    assert line.schedule.outlook(newcomer).place == 2  # one round: one call of each key
    assert line.schedule.outlook(hog[4]).place == 6
    assert line.schedule.outlook(hog[4]).wait_s == pytest.approx(6 * 1.0 / 2)
    line.leave(hog[0])
    assert line.schedule.outlook(hog[4]).place == 5
    with pytest.raises(KeyError):
        line.schedule.outlook(hog[0])


def test_a_place_is_never_promised_too_early() -> None:
    """Among equals, a call starts after as many others as it was told, or fewer."""
    line = busy_line(slots=1, waiting=20)
    for key in range(2, 8):
        for _ in range(key):
            line.come(key)
    told = {ticket: line.schedule.outlook(ticket).place for ticket in line.visits if ticket not in line.started}
    before = len(line.started)
    while line.running:
        line.end()
    for place, ticket in enumerate(line.started[before:], start=1):
        assert place <= told[ticket]


def test_the_estimate_follows_what_slots_were_held_for() -> None:
    line = Line(slots=4)
    for _ in range(40):
        line.come(1, slots=2)
        line.now += 3.0
        line.end()
    for _ in range(5):
        line.come(1)
    assert line.schedule.outlook(max(line.visits)).wait_s == pytest.approx(1 * 2 * 3.0 / 4, rel=0.01)


def test_closing_sends_all_who_wait_away() -> None:
    line = busy_line(slots=1, waiting=3)
    other = line.come(2, deadline=4.0)
    assert line.schedule.close() == [1, 2, 3, other]
    assert (line.schedule.waiting, line.schedule.busy, line.schedule.next_deadline) == (0, 1, float("inf"))
    line.end()
    assert line.schedule.busy == 0


def test_keys_that_have_gone_are_forgotten() -> None:
    line = Line(slots=1)
    for key in range(500):
        line.come(key)
        line.end()
    for _ in range(600):
        line.come(1000)
        line.come(1001)
        line.end()
        line.end()
    assert len(line.schedule._accounts) <= 3


def test_what_does_not_wait_cannot_leave_and_what_does_not_run_cannot_finish() -> None:
    line = busy_line(slots=1, waiting=1)
    running, waiting = 0, 1
    for act, ticket in ((line.schedule.leave, running), (line.schedule.finish, waiting), (line.schedule.leave, 99)):
        with pytest.raises(KeyError):
            act(ticket, 0.0)
    with pytest.raises(ValueError, match="in use"):
        line.schedule.arrive(waiting, Visit(1), 0.0)
    assert (line.schedule.busy, line.schedule.waiting) == (1, 1)
