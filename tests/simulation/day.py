"""What kind of day a seed makes: who calls how much, how large lines and limits are, what may go wrong how often."""

from __future__ import annotations

from random import Random

from gateway import LineSizes

from dashbelle.admission.limits import Limits, LimitTable
from dashbelle.admission.schedule import Visit

MODELS = ("m", "stand-in")
KEYS = 5
WEIGHTS = {
    "arrive": 20,
    "row": 25,
    "token": 12,
    "finish": 20,
    "settle": 16,
    "hang_up": 4,
    "engine_death": 1,
    "pass_time": 14,
    "jump": 1,
    "clock_back": 1,
    "kill": 1,
    "new_table": 1,
}


class Day:
    """The conditions of one day, and whatever is drawn while it passes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.crowded = random.random() < 0.4
        """Many wait for few slots, and little else happens: a day for the question who is next."""
        self.exact = self.crowded and random.random() < 0.5
        """Moreover, every call takes just what it may."""
        self.spoiled = self.crowded and not self.exact and random.random() < 0.5
        """One key hangs up as soon as it has slots."""
        self.sizes: LineSizes = {model: self._line_sizes() for model in MODELS}
        self._shares = {key: random.choice([0.5, 2.0, 3.0]) for key in range(KEYS) if random.random() < 0.2}
        self._busy_keys = [random.choice([1, 1, 6, 20]) for _ in range(KEYS)]
        self.weights = self._event_weights()

    def key(self) -> int:
        """Who calls."""
        return self.random.choices(range(KEYS), self._busy_keys)[0]

    def model(self) -> str:
        """Which line it goes to."""
        return MODELS[0] if self.crowded else self.random.choice(MODELS)

    def visit(self, key: int, clock: float, share: float) -> Visit:
        """What it asks for."""
        random = self.random
        return Visit(
            key,
            slots=random.choice([1, 1, 1, 2, 5]),
            input_tokens=random.randint(1, 60) * (1 + 2 * (key % 2)),
            max_output_tokens=20 if self.exact else random.choice([1, 20, 40]),
            deadline=clock + (300.0 if self.crowded else random.choice([0.0, 3.0, 40.0, 300.0])),
            share=share,
        )

    def table(self) -> LimitTable:
        """The limits, as somebody sets them."""
        random = self.random
        if self.crowded or random.random() < 0.3:
            return LimitTable(shares=self._shares)
        return LimitTable(
            keys={key: self._limits() for key in range(KEYS) if random.random() < 0.3},
            models={model: self._limits() for model in MODELS if random.random() < 0.3},
            key_default=self._limits(),
            shares=self._shares,
        )

    def _limits(self) -> Limits:
        def some(*limits: int) -> int | None:
            return self.random.choice([None, None, *limits])

        return Limits(some(1, 3, 8), some(60, 150, 400), some(1, 2, 5))

    def _line_sizes(self) -> tuple[int, int, int | None]:
        random = self.random
        if self.crowded:
            return random.randint(1, 3), 20, None
        return random.randint(1, 4), random.choice([0, 1, 4, 8, 12]), random.choice([None, None, 1, 4])

    def _event_weights(self) -> dict[str, int]:
        if not self.crowded:
            return WEIGHTS | {"arrive": self.random.choice([10, 20, 40])}
        weights = WEIGHTS | {"jump": 0, "clock_back": 0, "kill": 0, "new_table": 0, "pass_time": 4}
        if self.spoiled:
            weights |= {"hang_up": 60, "row": 10}
        if self.exact:
            weights |= {"hang_up": 0, "engine_death": 0}
        return weights
