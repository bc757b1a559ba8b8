"""Paths as SDKs spell them, errors of last resort, and one log line per request without a secret."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from asgi_client import (
    KEY,
    LIMITS,
    NO_SHELF,
    REQUEST_ID,
    Connection,
    Gateway,
    ScriptedPipeline,
    error_of,
    generation,
    request_of,
    same_error,
)
from prometheus_client import CollectorRegistry
from starlette.types import Message as ASGIMessage

from dashbelle.engine.catalog import Catalog
from dashbelle.errors import InternalError, MethodNotSupported, NotFound, QueueFull
from dashbelle.vocabulary import Caller, Delta
from dashbelle.wire.routes import GENERATION_PATH, build

SSE = {"x-dashscope-sse": "enable"}


@pytest.mark.parametrize(
    "path",
    [
        GENERATION_PATH,
        GENERATION_PATH + "/",
        "/" + GENERATION_PATH,
        "/api/v1//services/aigc/text-generation/generation",
        "/api//v1/services//aigc/text-generation/generation//",
        "/api/v1services/aigc/text-generation/generation",
    ],
)
async def test_the_path_may_be_joined_in_several_ways(path: str) -> None:
    assert (await Gateway().post(generation(), path=path)).status == 200


@pytest.mark.parametrize(
    "path",
    ["/", "//", "", "/api/v1", "/api/v1/", "/API/v1/services/aigc/text-generation/generation", "/api/v10", "/healthz/x",
     GENERATION_PATH + "/x", "/services/aigc/text-generation/generation", "*", "/\0", "/%2e%2e/", "/" + "a" * 20_000],
)  # fmt: skip
async def test_unknown_paths_are_404_in_json(path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert same_error(await Gateway().request(method, path), NotFound())


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
async def test_other_methods_are_refused_in_json(method: str) -> None:
    assert same_error(await Gateway().request(method, GENERATION_PATH), MethodNotSupported(method))


async def test_every_request_has_its_own_uuid() -> None:
    silent = structlog.wrap_logger(structlog.testing.CapturingLogger())
    app = build(
        ScriptedPipeline(Delta("a", 1, "stop")),
        catalog=Catalog({}),
        shelf=NO_SHELF,
        readiness=list,
        registry=CollectorRegistry(),
        log=silent,
        limits=LIMITS,
    )
    ids = set()
    for _ in range(3):
        connection, scope = request_of(generation())
        await app(scope, connection.receive, connection.send)
        assert connection.reply.headers["x-request-id"] == connection.reply.json["request_id"]
        ids.add(connection.reply.json["request_id"])
    assert len(ids) == 3
    assert all(str(uuid.UUID(request_id)) == request_id for request_id in ids)


class Bug(Exception):
    """What nobody foresaw."""


class BuggyPipeline(ScriptedPipeline):
    """Breaks while it looks up the key."""

    async def identify(self, _secret: str | None) -> Caller:
        raise Bug("details for the log only")


@pytest.mark.parametrize("headers", [{}, SSE])
@pytest.mark.parametrize(
    "pipeline",
    [
        BuggyPipeline,
        lambda: ScriptedPipeline(Bug("details for the log only")),
        lambda: ScriptedPipeline(entry=Bug("details for the log only")),
    ],
)
@pytest.mark.item(80)
async def test_an_unforeseen_error_is_logged_with_its_trace_and_answered_without(
    pipeline: Callable[[], ScriptedPipeline], headers: dict[str, str]
) -> None:
    app = Gateway(pipeline())
    reply = await app.post(generation(), headers)
    assert same_error(reply, InternalError())
    unforeseen, access = app.log_lines
    assert unforeseen["event"] == "unforeseen error"
    assert unforeseen["request_id"] == REQUEST_ID
    assert "Traceback" in unforeseen["exception"]
    assert "Bug: details for the log only" in unforeseen["exception"]
    assert access["status"] == 500
    assert b"Bug" not in reply.body


async def test_an_unforeseen_error_within_a_stream_is_its_last_event() -> None:
    app = Gateway(ScriptedPipeline(Delta("a", 1), Bug("details")))
    reply = await app.post(generation(), SSE)
    assert reply.pieces[1].startswith(b'id:2\nevent:error\n:HTTP_STATUS/500\ndata:{"code":"InternalError"')
    assert reply.ended
    assert [line["event"] for line in app.log_lines] == ["unforeseen error", "request"]


async def test_an_internal_error_from_below_is_logged_with_its_cause() -> None:
    error = InternalError()
    error.__cause__ = Bug("deep down")
    app = Gateway(ScriptedPipeline(error))
    assert same_error(await app.post(generation()), InternalError())
    assert "Bug: deep down" in app.log_lines[0]["exception"]


async def test_a_foreseen_error_is_no_trace_in_the_log() -> None:
    app = Gateway(ScriptedPipeline(entry=QueueFull()))
    await app.post(generation())
    (line,) = app.log_lines
    assert (line["status"], line["code"]) == (429, "Throttling.RateQuota")


async def test_each_request_is_one_log_line() -> None:
    app = Gateway()
    await app.post(generation())
    assert app.log_lines == [
        {
            "event": "request",
            "request_id": REQUEST_ID,
            "method": "POST",
            "path": GENERATION_PATH,
            "status": 200,
            "duration_ms": 100.0,
            "key": "ada",
        }
    ]


async def test_the_log_has_no_prompt_answer_key_or_query() -> None:
    answer = Delta("canary-answer", 1, "stop")
    prompt = {"prompt": "canary-prompt"}
    pipelines = [
        ScriptedPipeline(answer),
        ScriptedPipeline(answer, Bug()),
        ScriptedPipeline(answer, entry=QueueFull()),
        BuggyPipeline(),
    ]
    bodies: list[Any] = [generation(input=prompt), generation(input=prompt, model=5), b'"canary-prompt\xff"', b"{"]
    for pipeline in pipelines:
        app = Gateway(pipeline)
        for headers in ({}, SSE, {"authorization": f"Basic {KEY}"}, {"content-type": "text/plain"}):
            for body in bodies:
                await app.post(body, headers)
        await app.request("GET", "/nowhere", {"authorization": f"Bearer {KEY}"})
        assert len(app.log_lines) >= 17
        assert "canary" not in app.log


async def test_a_line_break_in_a_path_stays_within_its_log_line() -> None:
    app = Gateway()
    await app.request("GET", '/a\r\n{"event":"forged"}')
    (line,) = app.log_lines
    assert line["path"] == "/a%0D%0A%7B%22event%22%3A%22forged%22%7D"


async def test_the_lifespan_is_the_one_that_was_given() -> None:
    steps = []

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        steps.append("up")
        yield
        steps.append("down")

    app = build(
        ScriptedPipeline(),
        catalog=Catalog({}),
        shelf=NO_SHELF,
        readiness=list,
        registry=CollectorRegistry(),
        log=structlog.wrap_logger(structlog.testing.CapturingLogger()),
        limits=LIMITS,
        lifespan=lifespan,
    )
    incoming = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(incoming)}

    async def send(message: ASGIMessage) -> None:
        steps.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert steps == ["up", "lifespan.startup.complete", "down", "lifespan.shutdown.complete"]


async def test_a_websocket_without_a_route_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    await Gateway().app({"type": "websocket", "path": "/nowhere", "headers": []}, Connection([]).receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]


async def test_requests_at_the_same_time_do_not_mix() -> None:
    app = Gateway(ScriptedPipeline(Delta("a", 1), Delta("b", 1, "stop")))
    replies = await asyncio.gather(*(app.post(generation(), SSE) for _ in range(20)))
    assert len({reply.body for reply in replies}) == 1


async def test_an_error_reply_has_the_one_form() -> None:
    assert error_of(await Gateway().post(b"{"))[0] == 400
