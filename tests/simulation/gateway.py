"""The gateway of the simulation: the real schedules and limits, and models of the ledger and of the way between them.

What `pipeline.open` does in one coroutine is here cut into its steps, so that anything may come between any two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dashbelle.admission.limits import Grant, Limiter, LimitTable, Scope
from dashbelle.admission.schedule import Moves, Schedule, Visit
from dashbelle.errors import QueueFull
from dashbelle.vocabulary import Caller

LineSizes = dict[str, tuple[int, int, int | None]]
"""Model -> slots, places, places per key."""


class RuleBroken(AssertionError):
    """What must never happen has happened."""


def check(holds: bool, rule: str, *facts: object) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise RuleBroken unless the rule holds."""
    if not holds:
        raise RuleBroken(f"{rule}: {', '.join(map(str, facts))}")


@dataclass(eq=False, slots=True)
class Call:
    """One call, from its admission on."""

    number: int
    key: int
    model: str
    names: tuple[str, ...]
    """Under which the model's limits count it."""
    visit: Visit
    admitted_at: float
    """In true time."""
    first_of_key: bool
    """Whether its key never had a call in this line before."""
    grant: Grant | None = None
    has_slots: bool = False
    has_row: bool = False
    sent_away: bool = False
    """By its deadline."""
    never_ran: bool = False
    """It ended while its row was written."""
    is_over: bool = False
    """Slots or place are given back; what is left is to settle."""
    settled: bool = False
    output_tokens: int = 0

    @property
    def runs(self) -> bool:
        return self.has_slots and self.has_row and not self.is_over

    @property
    def waits(self) -> bool:
        return not (self.has_slots or self.sent_away or self.is_over)

    @property
    def worst_case(self) -> int:
        return self.visit.input_tokens + self.visit.max_output_tokens

    @property
    def used(self) -> int:
        ran = self.has_slots and self.has_row and not self.never_ran
        return self.visit.input_tokens + self.output_tokens if ran else 0

    @property
    def scopes(self) -> list[Scope]:
        return [("key", self.key), *(("model", name) for name in dict.fromkeys(self.names))]


@dataclass
class Book:
    """The ledger: what it holds survives every kill, and it refuses what must happen once to happen twice."""

    reserved: dict[int, Call] = field(default_factory=dict)
    settled: dict[int, int] = field(default_factory=dict)
    """Tokens by call."""

    def reserve(self, call: Call) -> None:
        check(call.number not in self.reserved, "a call is reserved once", call.number)
        self.reserved[call.number] = call

    def settle(self, call: Call, tokens: int) -> None:
        check(call.number in self.reserved, "only what was reserved is settled", call.number)
        check(call.number not in self.settled, "a call is settled once", call.number)
        self.settled[call.number] = tokens

    def settle_crashed(self) -> list[Call]:
        """What a dead gateway left open."""
        crashed = [call for number, call in self.reserved.items() if number not in self.settled]
        for call in crashed:
            self.settle(call, 0)
        return crashed


class Gateway:
    """One life of the server: a line per model and the limits. `now` is what its clock shows."""

    def __init__(self, parts: Parts, book: Book, lines: LineSizes, table: LimitTable) -> None:
        self.book = book
        self.lines = {model: parts.schedule(*sizes) for model, sizes in lines.items()}
        self.limiter = parts.limiter(table)
        self.calls: dict[int, Call] = {}
        """All that are not settled."""

    def admit(self, call: Call, now: float) -> Moves:
        """Limits, then room. Raises LimitReached, QueueFull; then the call never was."""
        grant = self.limiter.admit(Caller(call.key, f"k{call.key}"), call.names, call.worst_case, now)
        try:
            moves = self.lines[call.model].arrive(call.number, call.visit, now)
        except QueueFull:
            self.limiter.cancel(grant)
            raise
        call.grant = grant
        self.calls[call.number] = call
        return moves

    def write_row(self, call: Call) -> None:
        """The reservation is durable."""
        self.book.reserve(call)
        call.has_row = True

    def refuse_row(self, call: Call, now: float) -> Moves:
        """The ledger cannot write: the call never ran."""
        moves = self.give_back(call, now)
        if call.grant is not None:
            self.limiter.cancel(call.grant)
        call.settled = True
        del self.calls[call.number]
        return moves

    def give_back(self, call: Call, now: float) -> Moves:
        """The call is over, for whatever reason: its slots, or its place, are free."""
        line = self.lines[call.model]
        call.is_over = True
        if call.has_slots:
            return line.finish(call.number, now, call.used)
        return Moves([], []) if call.sent_away else line.leave(call.number, now)

    def settle_row(self, call: Call) -> None:
        """The settlement is durable."""
        self.book.settle(call, call.used)

    def release(self, call: Call, now: float) -> None:
        """The limits know the truth: the last thing that a call does."""
        if call.grant is not None:
            self.limiter.settle(call.grant, call.used, now)
        call.settled = True
        del self.calls[call.number]

    def recall(self, past: list[tuple[Call, int]], true_now: float, now: float) -> None:
        """What was admitted before this life and may still count, oldest first."""
        for call, tokens in past:
            self.limiter.recall(call.key, call.names, tokens, true_now - call.admitted_at, now)


@dataclass(frozen=True)
class Parts:
    """What is simulated; the tests of the simulation itself put broken ones in."""

    schedule: type[Schedule] = Schedule
    limiter: type[Limiter] = Limiter
    gateway: type[Gateway] = Gateway
