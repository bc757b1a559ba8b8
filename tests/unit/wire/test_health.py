"""What supervisors, balancers and scrapers get."""

from __future__ import annotations

import pytest
from asgi_client import REQUEST_ID, Gateway, error_of
from prometheus_client import Counter


async def test_a_live_server_says_so() -> None:
    reply = await Gateway(unready=["still loading"]).request("GET", "/healthz")
    assert (reply.status, reply.json) == (200, {"status": "alive", "request_id": REQUEST_ID})
    assert reply.headers["x-request-id"] == REQUEST_ID


async def test_a_ready_server_says_so() -> None:
    reply = await Gateway().request("GET", "/readyz")
    assert (reply.status, reply.json) == (200, {"status": "ready", "reasons": [], "request_id": REQUEST_ID})


async def test_a_server_that_is_not_ready_says_why() -> None:
    reply = await Gateway(unready=["engine of belle is starting"]).request("GET", "/readyz")
    assert reply.status == 503
    assert reply.json["reasons"] == ["engine of belle is starting"]


async def test_metrics_are_those_of_the_registry() -> None:
    app = Gateway()
    Counter("calls", "Calls.", registry=app.registry).inc(3)
    reply = await app.request("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert b"calls_total 3.0" in reply.body


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_they_can_only_be_read(path: str) -> None:
    assert (await Gateway().request("HEAD", path)).status == 200
    assert error_of(await Gateway().request("POST", path))[:2] == (400, "InvalidParameter")
