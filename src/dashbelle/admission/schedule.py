"""Whose call runs next on one model's slots: the waiting line as a pure state machine; time and tickets are passed in.

Deficit round robin between keys, with a quantum of one token: in each round every waiting key earns its share of a
token, and starts its next call in the round in which it has earned what its last one cost. Rounds are computed instead
of walked (a key's account is the number of its next round, a heap finds the least), so that no operation depends on
how many keys there are or on how much their calls cost.

* A key that comes new joins in the present round: its first call is next, whatever others have in the line.
* Within a key calls start in the order of their arrival.
* A call of several slots that is next is waited for: it is passed only by keys that were served less.
* Nothing is saved up: an account is never behind the present round, and never ahead by more than one call's cost.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from dashbelle.admission.ranking import Depths, Ranking
from dashbelle.errors import QueueFull

LEAST_TOKENS = 32
"""What a call costs at least, however short its answer. It bounds how many short calls pass one after a long one."""
MEMORY = 0.2
"""How much the newest call counts in a moving mean."""
FIRST_GUESS_S = 1.0
"""How long a slot is taken to be held before that was measured."""
LONGEST_RETRY_S = 60
LEVELS = 1024
"""Places in one key's line that estimates tell apart."""
SWEPT = 2
"""Idle accounts that one operation may forget, so that none pays for thousands."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What a call wants of the line, and what it weighs."""

    key: int
    slots: int = 1
    input_tokens: int = 1
    max_output_tokens: int = 1
    deadline: float = math.inf
    """When it must have started, by the clock that `now` is read from, in seconds."""
    share: float = 1.0
    """A key of share 2 gets twice the tokens of a key of share 1 while both wait."""


class Moves(NamedTuple):
    """What an event set in motion, by tickets: calls that hold their slots from now on, calls that waited too long."""

    started: list[int]
    expired: list[int]


class Outlook(NamedTuple):
    """Where a waiting call stands: in how many starts it is at the latest if nobody comes, and in how many seconds."""

    place: int
    wait_s: float


@dataclass(slots=True)
class _Waiting:
    visit: Visit
    slots: int
    serial: int
    """In the order of arrival, over all keys."""
    number: int
    """In the order of arrival, within its key."""


@dataclass(slots=True)
class _Running:
    visit: Visit
    slots: int
    charged: float
    since: float


@dataclass(slots=True)
class _Account:
    """One key that has calls here, or had some lately."""

    round: float
    """In which its next call may start."""
    output_mean: float
    """Tokens that its answers take; a guess at what a call will cost, put right when it ends."""
    turn: int = -1
    """The number of its last start; -1: none yet."""
    arrivals: int = 0
    running: int = 0
    waiting: OrderedDict[int, _Waiting] = field(default_factory=OrderedDict)


class Schedule:
    """`slots` answers run at a time; at most `places` calls wait, of one key at most `places_per_key` (None: as many).

    Tickets are the caller's, each used once. Every event answers what it set in motion. A clock that goes back stands.
    """

    def __init__(self, slots: int, places: int, places_per_key: int | None = None) -> None:
        self.slots = slots
        self._places = places
        self._places_per_key = places if places_per_key is None else min(places, places_per_key)
        self._free = slots
        self._round = 0.0
        self._now = -math.inf
        self._serials, self._turns = count(), count()
        self._accounts: dict[int, _Account] = {}
        self._key_of: dict[int, int] = {}
        """Of every ticket that waits, in the order of arrival."""
        self._running: dict[int, _Running] = {}
        self._order: Ranking[int] = Ranking()
        """Keys that wait, by who is next."""
        self._idle: Ranking[int] = Ranking()
        """Keys without calls, by the round from which on their account says nothing."""
        self._deadlines: Ranking[int] = Ranking()
        self._depths = Depths(LEVELS)
        self._hold_s = FIRST_GUESS_S
        self._output_mean = math.inf

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self.slots - self._free

    @property
    def waiting(self) -> int:
        """Calls in the line."""
        return len(self._key_of)

    @property
    def next_deadline(self) -> float:
        """When `tick` is due at the latest; infinite if nobody waits."""
        return self._deadlines.least[0][0] if self._deadlines else math.inf

    def runs(self, ticket: int) -> bool:
        """Whether the call holds its slots."""
        return ticket in self._running

    def check_room(self, visit: Visit) -> None:
        """Raise QueueFull, with the time after which to come back, when a call could neither run nor wait now."""
        if not self._key_of and self._free >= min(visit.slots, self.slots):
            return
        mine = len(account.waiting) if (account := self._accounts.get(visit.key)) else 0
        if self.waiting >= self._places:
            place = self.waiting + 1
            held = f"{self.slots} slots are busy and {self.waiting} calls wait"
        elif mine >= self._places_per_key:
            place = self._place(mine + 1) + 1
            held = f"{mine} calls of this key wait, as many as may"
        else:
            return
        raise QueueFull(
            f"{QueueFull.default_message} {held}.",
            retry_after_s=min(max(math.ceil(self._wait_s(place)), 1), LONGEST_RETRY_S),
        )

    def arrive(self, ticket: int, visit: Visit, now: float) -> Moves:
        """A call comes. One wider than all slots takes all. Raises QueueFull: then it never came."""
        if ticket in self._key_of or ticket in self._running:
            raise ValueError(f"ticket {ticket} is in use")
        self.check_room(visit)
        account = self._account(visit.key)
        account.arrivals += 1
        serial = next(self._serials)
        account.waiting[ticket] = _Waiting(visit, min(visit.slots, self.slots), serial, account.arrivals)
        self._key_of[ticket] = visit.key
        self._depths.add(len(account.waiting), 1)
        if visit.deadline < math.inf:
            self._deadlines.put(ticket, (visit.deadline, serial))
        self._rank(visit.key)
        return self.tick(now)

    def leave(self, ticket: int, now: float) -> Moves:
        """A waiting call gives up. Raises KeyError if it does not wait."""
        self._remove(ticket)
        return self.tick(now)

    def finish(self, ticket: int, now: float, used_tokens: int = 0) -> Moves:
        """A running call ends; `used_tokens`, input and output, is what it really took. Raises KeyError otherwise."""
        running = self._running.pop(ticket)
        self._now = max(self._now, now)
        self._free += running.slots
        self._settle(running, used_tokens)
        return self.tick(now)

    def tick(self, now: float) -> Moves:
        """Let time pass: send away who waited too long, start what fits."""
        self._now = max(self._now, now)
        expired = list(self._expire())
        started = list(self._start())
        self._sweep()
        return Moves(started, expired)

    def close(self) -> list[int]:
        """Send all who wait away; their tickets in the order of arrival."""
        tickets = list(self._key_of)
        for ticket in tickets:
            self._remove(ticket)
        return tickets

    def outlook(self, ticket: int) -> Outlook:
        """Where a waiting call stands, as if all calls cost the same. Raises KeyError if it does not wait."""
        lane = self._accounts[self._key_of[ticket]].waiting
        ahead = lane[ticket].number - lane[next(iter(lane))].number  # those who left in between are still counted
        place = self._place(min(ahead + 1, len(lane)))
        return Outlook(place, self._wait_s(place))

    def _account(self, key: int) -> _Account:
        account = self._accounts.setdefault(key, _Account(self._round, self._output_mean))
        self._idle.discard(key)
        account.round = max(account.round, self._round)
        return account

    def _place(self, number: int) -> int:
        """At most so many calls start until a key's `number`th has: round by round, one of each key that waits."""
        return self._depths.total(number) if number <= LEVELS else self.waiting

    def _wait_s(self, place: int) -> float:
        return place * self._hold_s / self.slots

    def _expire(self) -> Iterator[int]:
        while self.next_deadline <= self._now:
            ticket = self._deadlines.least[1]
            self._remove(ticket)
            yield ticket

    def _remove(self, ticket: int) -> None:
        """Take a call out of the line, whatever for."""
        key = self._key_of.pop(ticket)
        lane = self._accounts[key].waiting
        self._depths.add(len(lane), -1)
        self._deadlines.discard(ticket)
        del lane[ticket]
        self._rank(key)

    def _start(self) -> Iterator[int]:
        while self._order:
            key = self._order.least[1]
            account = self._accounts[key]
            ticket, head = next(iter(account.waiting.items()))
            if head.slots > self._free:
                return  # it is next: the slots that come free are kept for it
            self._round = account.round
            charged = self._guess(head.visit, account)
            account.round += charged / head.visit.share
            account.turn = next(self._turns)
            account.running += 1
            self._free -= head.slots
            self._running[ticket] = _Running(head.visit, head.slots, charged, self._now)
            self._remove(ticket)
            yield ticket

    def _guess(self, visit: Visit, account: _Account) -> float:
        return max(visit.input_tokens + min(visit.max_output_tokens, account.output_mean), LEAST_TOKENS)

    def _settle(self, running: _Running, used_tokens: int) -> None:
        """Replace the guess at a call's cost by the truth, and learn from it."""
        visit, key = running.visit, running.visit.key
        account = self._accounts[key]
        account.running -= 1
        cost = max(used_tokens, LEAST_TOKENS)
        # What a key took while nobody else wanted it is no debt: at most the last call is held against it.
        most = max(account.round, self._round + cost / visit.share)
        account.round += (cost - running.charged) / visit.share
        account.round = min(max(account.round, self._round), most)
        output = max(used_tokens - visit.input_tokens, 0)
        account.output_mean = _mean(account.output_mean, output)
        self._output_mean = _mean(self._output_mean, output)
        self._hold_s += MEMORY * (running.slots * (self._now - running.since) - self._hold_s)
        self._rank(key)

    def _rank(self, key: int) -> None:
        """Put a key where its account belongs: among those that wait, among the idle, or in neither."""
        account = self._accounts[key]
        if account.waiting:
            head = account.waiting[next(iter(account.waiting))]
            # Of equals the one that was served longest ago, of those the one that came first.
            self._order.put(key, (account.round, account.turn, head.serial))
            return
        self._order.discard(key)
        if not account.running:
            self._idle.put(key, (account.round,))

    def _sweep(self) -> None:
        for _ in range(SWEPT):
            if self._idle and self._idle.least[0][0] <= self._round:
                key = self._idle.least[1]
                self._idle.discard(key)
                del self._accounts[key]


def _mean(mean: float, value: float) -> float:
    return value if mean == math.inf else mean + MEMORY * (value - mean)
