"""The figures of /metrics: what calls used and how long they took, never what they said."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dashbelle.metering.ledger import Reservation, Settlement

FIRST_TOKEN_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
BETWEEN_TOKENS_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
DURATION_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """One registry of its own, so that two services in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["model"]
        self._calls = Counter("dashbelle_calls", "Settled calls", [*labels, "end_reason"], registry=self.registry)
        self._tokens = Counter(
            "dashbelle_tokens", "Tokens of settled calls", [*labels, "direction"], registry=self.registry
        )
        self._first_token = self._histogram(
            "first_token", "From a call's arrival to its first token", FIRST_TOKEN_BUCKETS_S
        )
        self._between_tokens = self._histogram(
            "inter_token", "Mean time between the tokens of one call", BETWEEN_TOKENS_BUCKETS_S
        )
        self._queue = self._histogram("queue", "Time that a call waited for a slot", DURATION_BUCKETS_S)
        self._duration = self._histogram("call_duration", "From a call's arrival to its settlement", DURATION_BUCKETS_S)
        self._slots = Gauge(
            "dashbelle_slots", "Answers that a model can compute at a time", labels, registry=self.registry
        )
        self._slots_busy = Gauge("dashbelle_slots_busy", "Slots in use", labels, registry=self.registry)
        self._waiting = Gauge("dashbelle_calls_waiting", "Calls in the waiting line", labels, registry=self.registry)
        self._restarts = Gauge(
            "dashbelle_worker_restarts",
            "Times that an engine process was started again",
            labels,
            registry=self.registry,
        )

    def watch(
        self,
        model: str,
        *,
        slots: Callable[[], float],
        busy: Callable[[], float],
        waiting: Callable[[], float],
        restarts: Callable[[], float],
    ) -> None:
        """Read these figures of `model` whenever somebody asks."""
        self._slots.labels(model).set_function(slots)
        self._slots_busy.labels(model).set_function(busy)
        self._waiting.labels(model).set_function(waiting)
        self._restarts.labels(model).set_function(restarts)

    def settled(self, reservation: Reservation, settlement: Settlement) -> None:
        """Count one settled call under the model that answered it."""
        model = reservation.served_model
        duration_s = (settlement.ended_at - reservation.started_at).total_seconds()
        self._calls.labels(model, settlement.end_reason.value).inc()
        self._tokens.labels(model, "input").inc(settlement.input_tokens)
        self._tokens.labels(model, "output").inc(settlement.output_tokens)
        self._queue.labels(model).observe(settlement.queue_s)
        self._duration.labels(model).observe(duration_s)
        if settlement.first_token_s is not None:
            self._first_token.labels(model).observe(settlement.first_token_s)
            if settlement.output_tokens > 1:
                between_s = (duration_s - settlement.first_token_s) / (settlement.output_tokens - 1)
                self._between_tokens.labels(model).observe(between_s)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"dashbelle_{name}_seconds", text, ["model"], buckets=buckets, registry=self.registry)
