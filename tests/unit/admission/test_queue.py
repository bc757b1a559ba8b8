"""The waiting line for coroutines: bounded, fair, and no slot is ever lost, whenever its visitors give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashbelle.admission.queue import Room, WaitingLine
from dashbelle.admission.schedule import Outlook, Visit
from dashbelle.errors import QueueFull, RequestTimedOut, ServerDraining

FAR = 1e9
ONE = Visit(1)


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


class Visitor:
    """Takes slots and keeps them until told to leave."""

    def __init__(self, line: WaitingLine, slots: int = 1, deadline: float = FAR, key: int = 1) -> None:
        self.inside = False
        self.room: Room | None = None
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(line, Visit(key, slots, deadline=deadline)))

    async def _visit(self, line: WaitingLine, visit: Visit) -> None:
        with line.room(visit) as self.room:
            async with self.room.slot():
                self.inside = True
                await self._leave.wait()
        self.inside = False

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def test_calls_run_up_to_the_slots_and_the_rest_wait_in_order() -> None:
    line = WaitingLine(slots=2, places=8)
    visitors = [Visitor(line) for _ in range(4)]
    await settle()
    assert [visitor.inside for visitor in visitors] == [True, True, False, False]
    assert (line.busy, line.waiting) == (2, 2)
    await visitors[1].leave()
    await settle()
    assert [visitor.inside for visitor in visitors] == [True, False, True, False]
    for visitor in (visitors[0], visitors[2], visitors[3]):
        await visitor.leave()
    assert (line.busy, line.waiting) == (0, 0)


async def test_a_full_line_refuses_and_says_when_to_come_back() -> None:
    line = WaitingLine(slots=1, places=1)
    line.check_room(ONE)
    running = Visitor(line)
    await settle()
    line.check_room(ONE)
    waiting = Visitor(line)
    await settle()
    with pytest.raises(QueueFull) as refusal:
        line.check_room(ONE)
    assert refusal.value.retry_after_s is not None
    assert 1 <= refusal.value.retry_after_s <= 60
    await running.leave()
    await waiting.leave()
    line.check_room(ONE)


async def test_a_line_without_places_still_lets_calls_run() -> None:
    line = WaitingLine(slots=1, places=0)
    line.check_room(ONE)


async def test_a_visitor_who_gives_up_leaves_no_gap() -> None:
    line = WaitingLine(slots=1, places=8)
    first, second, third = Visitor(line), Visitor(line), Visitor(line)
    await settle()
    second.task.cancel()
    await settle()
    assert line.waiting == 1
    await first.leave()
    await settle()
    assert third.inside
    await third.leave()
    assert line.busy == 0


async def test_a_slot_given_in_the_moment_of_giving_up_goes_to_the_next() -> None:
    line = WaitingLine(slots=1, places=8)
    first, second, third = Visitor(line), Visitor(line), Visitor(line)
    await settle()
    first._leave.set()
    first.task.add_done_callback(lambda _: second.task.cancel())
    await settle()
    assert second.task.cancelled()
    assert third.inside
    await third.leave()
    assert line.busy == 0


async def test_a_slot_that_comes_to_one_who_has_just_given_up_goes_to_the_next() -> None:
    line = WaitingLine(slots=1, places=8)
    first, second, third = Visitor(line), Visitor(line), Visitor(line)
    await settle()
    second.task.cancel()
    assert first.room is not None
    first.room.give_back()
    assert (line.busy, line.waiting) == (1, 1)  # it is the second's, who has yet to be told that it is cancelled
    await settle()
    assert second.task.cancelled()
    assert third.inside
    await first.leave()
    assert line.busy == 1
    await third.leave()
    assert line.busy == 0


async def test_a_wide_call_waits_for_all_its_slots_and_is_not_overtaken() -> None:
    line = WaitingLine(slots=2, places=8)
    narrow, wide, late = Visitor(line), Visitor(line, slots=2), Visitor(line)
    await settle()
    assert (narrow.inside, wide.inside, late.inside) == (True, False, False)
    await narrow.leave()
    await settle()
    assert (wide.inside, late.inside) == (True, False)
    await wide.leave()
    await settle()
    assert late.inside
    await late.leave()


async def test_a_call_wider_than_all_slots_takes_all() -> None:
    line = WaitingLine(slots=2, places=8)
    wide = Visitor(line, slots=4)
    await settle()
    assert wide.inside
    assert line.busy == 2
    await wide.leave()


async def test_when_a_wide_call_gives_up_those_behind_it_go_ahead() -> None:
    line = WaitingLine(slots=2, places=8)
    narrow, wide, late = Visitor(line), Visitor(line, slots=2), Visitor(line)
    await settle()
    wide.task.cancel()
    await settle()
    assert late.inside
    await narrow.leave()
    await late.leave()


async def test_waiting_ends_at_the_deadline() -> None:
    line = WaitingLine(slots=1, places=8)
    running = Visitor(line)
    await settle()
    late = Visitor(line, deadline=asyncio.get_running_loop().time())
    with pytest.raises(RequestTimedOut):
        await late.task
    assert line.waiting == 0
    await running.leave()


async def test_closing_sends_the_waiting_away_and_lets_the_running_finish() -> None:
    line = WaitingLine(slots=1, places=8)
    running, waiting = Visitor(line), Visitor(line)
    await settle()
    line.close()
    with pytest.raises(ServerDraining):
        await waiting.task
    with pytest.raises(ServerDraining):
        line.check_room(ONE)
    with pytest.raises(ServerDraining):
        await Visitor(line).task
    assert running.inside
    await running.leave()


async def test_another_keys_first_call_does_not_wait_behind_a_long_line() -> None:
    line = WaitingLine(slots=1, places=200)
    crowd = [Visitor(line) for _ in range(101)]
    await settle()
    newcomer = Visitor(line, key=2)
    await settle()
    assert newcomer.room is not None
    assert newcomer.room.outlook == Outlook(place=2, wait_s=2.0)
    await crowd[0].leave()
    await settle()
    assert newcomer.inside
    assert newcomer.room.outlook is None
    for visitor in (newcomer, *crowd[1:]):
        visitor.task.cancel()
    await asyncio.gather(*(visitor.task for visitor in crowd), newcomer.task, return_exceptions=True)
    assert (line.busy, line.waiting) == (0, 0)


async def test_the_last_place_is_given_once() -> None:
    """Room is taken when it is promised, not when the promise is redeemed."""
    line = WaitingLine(slots=1, places=1)
    with line.room(ONE), line.room(ONE):
        with pytest.raises(QueueFull), line.room(ONE):
            pass
        assert (line.busy, line.waiting) == (1, 1)
    assert (line.busy, line.waiting) == (0, 0)


async def test_a_key_may_not_take_all_places_where_they_are_bounded_per_key() -> None:
    line = WaitingLine(slots=1, places=5, places_per_key=1)
    with line.room(ONE), line.room(ONE):
        with pytest.raises(QueueFull):
            line.check_room(ONE)
        line.check_room(Visit(2))


async def test_slots_are_free_before_the_room_is_left() -> None:
    line = WaitingLine(slots=1, places=0)
    with line.room(ONE) as room:
        async with room.slot():
            assert line.busy == 1
        assert line.busy == 0
        line.check_room(ONE)


async def test_a_room_can_be_had_together_with_its_slots() -> None:
    line = WaitingLine(slots=1, places=0)
    async with line.slot(ONE):
        assert line.busy == 1
    assert line.busy == 0


async def test_what_a_call_really_took_decides_whose_turn_it_is() -> None:
    line = WaitingLine(slots=1, places=10)
    for key, used in ((1, 900), (2, 40)):
        with line.room(Visit(key, max_output_tokens=1000)) as room:
            async with room.slot():
                room.used_tokens = used
    running, heavy, light = Visitor(line, key=3), Visitor(line, key=1), Visitor(line, key=2)
    await settle()
    await running.leave()
    await settle()
    assert (heavy.inside, light.inside) == (False, True)
    await light.leave()
    await heavy.leave()


async def test_the_alarm_rings_for_each_deadline_in_turn() -> None:
    line = WaitingLine(slots=1, places=8)
    running = Visitor(line)
    await settle()
    now = asyncio.get_running_loop().time()
    waiting = [Visitor(line, deadline=now + delay) for delay in (0.03, 0.01, 0.02)]
    await settle()
    assert line._alarm is not None
    assert line._alarm.when() == now + 0.01
    done, _ = await asyncio.wait({visitor.task for visitor in waiting}, timeout=5)
    assert len(done) == 3
    assert {type(task.exception()) for task in done} == {RequestTimedOut}
    assert line._alarm is None
    await running.leave()


async def test_an_alarm_whose_call_has_started_wakes_nobody() -> None:
    line = WaitingLine(slots=1, places=8)
    running = Visitor(line)
    await settle()
    soon = asyncio.get_running_loop().time() + 1
    lucky, patient = Visitor(line, deadline=soon), Visitor(line, deadline=soon + 1)
    await settle()
    await running.leave()
    await settle()
    assert line._alarm is not None
    line._ring()
    await settle()
    assert (lucky.inside, patient.task.done()) == (True, False)
    assert line._alarm.when() == soon + 1
    for visitor in (lucky, patient):
        await visitor.leave()
    assert line._alarm is None


Event = tuple[str, int]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["arrive", "leave", "cancel"]), st.integers(0, 7)), max_size=40),
)
def test_whatever_happens_slots_are_conserved_and_nobody_starves(slots: int, events: list[Event]) -> None:
    async def play() -> None:
        line = WaitingLine(slots, places=100)
        visitors: list[Visitor] = []
        acts: dict[str, Callable[[Visitor], object]] = {
            "leave": lambda visitor: visitor._leave.set(),
            "cancel": lambda visitor: visitor.task.cancel(),
        }
        for act, number in events:
            if act == "arrive":
                visitors.append(Visitor(line, slots=1 + number % 3, key=number % 4))
            elif visitors:
                acts[act](visitors[number % len(visitors)])
            if number % 2:
                await settle()
            assert 0 <= line.busy <= slots
        for visitor in visitors:
            visitor._leave.set()
        await asyncio.gather(*(visitor.task for visitor in visitors), return_exceptions=True)
        assert (line.busy, line.waiting) == (0, 0)

    asyncio.run(play())
