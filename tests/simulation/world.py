"""One simulated day: a seed decides who calls, what fails and when; the same seed plays the same day again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from day import MODELS, Day
from gateway import Book, Call, Parts, RuleBroken, check
from rules import Rules

from dashbelle.admission.schedule import Moves
from dashbelle.errors import LimitReached, QueueFull

EVENTS = 50
FORGOTTEN_S = 62.0
"""Of what is older than this nothing counts."""


class World:
    """Everything between the callers and the disk."""

    def __init__(self, seed: int, parts: Parts = Parts()) -> None:  # noqa: B008 - frozen
        self.seed = seed
        self.trace: list[str] = []
        self.time = 0.0
        self.random = Random(seed)  # noqa: S311 - reproducible by intent
        self._day = Day(self.random)
        self._table = self._day.table()
        self._parts = parts
        self._book = Book()
        self._past: list[Call] = []
        """What a restart must recall, if it has a row by then."""
        self._count = 0
        self._start(offset=0.0)

    def play(self) -> None:
        """Live through the day and its evening. Raises RuleBroken, which names seed and events."""
        names, weights = list(self._day.weights), list(self._day.weights.values())
        try:
            for name in self.random.choices(names, weights, k=EVENTS):
                self.trace.append(f"{self.time:.3f} {name}")
                getattr(self, f"_{name}")()
                self._rules_hold()
            self._evening()
        except (RuleBroken, KeyError, ValueError, IndexError) as error:
            story = "\n  ".join(self.trace[-40:])
            raise RuleBroken(
                f"{type(error).__name__}: {error}\n  replay: pytest tests/simulation --seed {self.seed}\n  {story}"
            ) from error

    @property
    def clock(self) -> float:
        """What the gateway's clock shows."""
        return self.time + self._offset

    def _start(self, offset: float) -> None:
        self._offset = offset
        self._gateway = self._parts.gateway(self._parts, self._book, self._day.sizes, self._table)
        self._rules = Rules(self._gateway, self._day.sizes, self._table, exact=self._day.exact)
        self._read_clock()

    def _read_clock(self) -> None:
        self._rules.reads(self.clock)

    def _rules_hold(self) -> None:
        self._read_clock()
        self._rules.hold(self.time)

    # --- events ----------------------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        """Calls come alone, or many of one key at once."""
        key = self._day.key()
        for _ in range(self.random.choice([1, 1, 1, 2, 6])):
            self._one_arrives(key, self._day.model())

    def _one_arrives(self, key: int, model: str) -> None:
        rules = self._rules
        self._count += 1
        call = Call(
            number=self._count,
            key=key,
            model=model,
            names=(self.random.choice(MODELS), model),
            visit=self._day.visit(key, self.clock, self._table.share_of(key)),
            admitted_at=self.time,
            first_of_key=key not in rules.lines[model].known,
        )
        self._read_clock()
        try:
            moves = self._gateway.admit(call, self.clock)
        except QueueFull as refusal:
            rules.line_was_full(call, refusal)
        except LimitReached as refusal:
            rules.limit_was_reached(call, refusal, self.time)
        else:
            self.trace[-1] += f" {call.number}(k{key} {model} x{call.visit.slots})"
            self._see(model)
            rules.admitted(call, self.time)
            self._past.append(call)
            self._follow(moves)

    def _see(self, model: str) -> None:
        """The line is told the time."""
        self._read_clock()
        line = self._rules.lines[model]
        line.clock = max(line.clock, self.clock)

    def _follow(self, moves: Moves) -> None:
        """What a coroutine does when it is woken."""
        for number in moves.expired:
            call = self._gateway.calls[number]
            self._rules.expired(call)
            call.sent_away = True
            if call.has_row:
                self._end(call)
        for number in moves.started:
            call = self._gateway.calls[number]
            self._rules.started(call)
            call.has_slots = True

    def _end(self, call: Call) -> None:
        self._see(call.model)
        moves = self._gateway.give_back(call, self.clock)
        self._rules.gave_back(call)
        self._follow(moves)

    def _some(self, condition: Callable[[Call], bool]) -> Call | None:
        calls = [call for call in self._gateway.calls.values() if condition(call)]
        return self.random.choice(calls) if calls else None

    def _row(self) -> None:
        """The ledger answers: durable, mostly."""
        call = self._some(lambda call: not call.has_row)
        if call is None:
            return
        if self.random.random() < 0.05 and not self._day.exact:
            self._see(call.model)
            self._rules.cancelled(call)
            self._past.remove(call)
            moves = self._gateway.refuse_row(call, self.clock)
            self._rules.gave_back(call)
            self._follow(moves)
            return
        self._gateway.write_row(call)
        if call.sent_away:
            self._end(call)

    def _token(self) -> None:
        call = self._some(lambda call: call.runs)
        if call is not None:
            call.output_tokens = min(call.output_tokens + self.random.randint(1, 9), call.visit.max_output_tokens)

    def _finish(self) -> None:
        """A good end: settled while it still holds its slots."""
        call = self._some(lambda call: call.runs)
        if call is not None:
            call.output_tokens = call.visit.max_output_tokens if self._day.exact else call.output_tokens
            self._gateway.settle_row(call)
            self._end(call)

    def _hang_up(self) -> None:
        """In whatever phase, but a row that is being written is written first."""
        call = self._some(
            lambda call: not call.is_over and ((call.has_slots and call.key == 0) or not self._day.spoiled)
        )
        if call is not None:
            if not call.has_row:
                self._gateway.write_row(call)
                call.never_ran = True
            self._end(call)

    def _engine_death(self) -> None:
        model = self.random.choice(MODELS)
        for call in [call for call in self._gateway.calls.values() if call.runs and call.model == model]:
            self._end(call)

    def _settle(self) -> None:
        """A call that is over reaches the end of its way."""
        call = self._some(lambda call: call.is_over)
        if call is not None:
            self._read_clock()
            if call.number not in self._book.settled:
                self._gateway.settle_row(call)
            self._gateway.release(call, self.clock)
            self._rules.released(call)

    def _pass_time(self) -> None:
        self.time += self.random.choice([0.01, 0.1, 1.0, 5.0, 20.0, 59.9, 60.0, 60.2])
        self._alarm()

    def _jump(self) -> None:
        """The machine was asleep."""
        self.time += 3600.0 * self.random.random()
        self._alarm()

    def _clock_back(self) -> None:
        self._offset -= self.random.choice([0.5, 5.0, 60.2])

    def _alarm(self) -> None:
        for model in MODELS:
            self._see(model)
            self._follow(self._gateway.lines[model].tick(self.clock))

    def _new_table(self) -> None:
        self._table = self._rules.table = self._gateway.limiter.table = self._day.table()

    def _kill(self) -> None:
        """Everything in memory is gone; what the ledger has is settled, and recalled."""
        crashed = set(self._book.settle_crashed())
        self.time += self.random.choice([0.2, 3.0, 30.0])
        self._start(offset=self.random.choice([-self.time, 0.0, 1e6]))
        self._past = [call for call in self._past if call.has_row and self.time - call.admitted_at < FORGOTTEN_S]
        past = [(call, call.worst_case if call in crashed else self._book.settled[call.number]) for call in self._past]
        self._gateway.recall(past, self.time, self.clock)
        self._rules.recalled(past, self.time)

    # --- the end ---------------------------------------------------------------------------------------------------

    def _evening(self) -> None:
        """Nobody comes any more, everybody gets to an end; then everything is empty."""
        self.trace.append(f"{self.time:.3f} evening")
        gateway, rules = self._gateway, self._rules
        while gateway.calls:
            before = len(gateway.calls)
            for call in list(gateway.calls.values()):
                if not call.has_row:
                    gateway.write_row(call)
                if call.sent_away and not call.is_over:
                    self._end(call)
            self._finish()
            self._settle()
            self._rules_hold()
            moving = len(gateway.calls) < before or any(call.runs or call.is_over for call in gateway.calls.values())
            check(moving, "everybody gets to an end", list(gateway.calls))
        self.time += max(rules.latest_clock - self.clock, 0.0) + FORGOTTEN_S  # clocks that went back have caught up
        self._rules_hold()
        rules.all_over()
        check(self._book.reserved.keys() == self._book.settled.keys(), "what was reserved is settled")
