"""GET /healthz, /readyz and /metrics: what a supervisor, a balancer and a scraper ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from dashbelle.wire.exchange import Exchange

Readiness = Callable[[], Sequence[str]]
"""Reasons why no calls should be sent here now; empty when ready."""


class Healthz:
    """Alive: the event loop answers."""

    async def __call__(self, exchange: Exchange) -> None:
        """Always 200."""
        await exchange.answer(200, msgspec.json.encode({"status": "alive", "request_id": exchange.request_id}))


class Readyz:
    """Ready: calls can be answered."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def __call__(self, exchange: Exchange) -> None:
        """200, or 503 with the reasons."""
        reasons = list(self._readiness())
        body = {"status": "not ready" if reasons else "ready", "reasons": reasons, "request_id": exchange.request_id}
        await exchange.answer(503 if reasons else 200, msgspec.json.encode(body))


class Metrics:
    """Everything in one Prometheus registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def __call__(self, exchange: Exchange) -> None:
        """The text exposition format."""
        await exchange.answer(200, generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST.encode())
