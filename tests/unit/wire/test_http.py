"""The generation route from request to reply: order of checks, both reply kinds, hang-ups in every phase."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from asgi_client import (
    AUTHORIZED,
    KEY,
    LIMITS,
    REQUEST_ID,
    Connection,
    Gateway,
    ScriptedPipeline,
    Step,
    error_of,
    generation,
    request_of,
    same_error,
    scope_of,
)
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message as ASGIMessage

from dashbelle.errors import (
    AsyncNotSupported,
    DashbelleError,
    DrainedAway,
    EngineFailed,
    InternalError,
    InvalidApiKey,
    MethodNotSupported,
    ModelNotFound,
    PayloadTooLarge,
    QueueFull,
    RequestTimedOut,
)
from dashbelle.vocabulary import Call, Caller, ChatPrompt, Delta, Message, Sampling, TextPrompt
from dashbelle.wire.exchange import ExchangeLimits
from dashbelle.wire.routes import GENERATION_PATH

GOLDEN = Path(__file__).parents[2] / "golden"
SSE = {"x-dashscope-sse": "enable"}
HELLO = (Delta("你", 1), Delta("好", 1), Delta("", 0, "stop"))
BAD_JSON = "Required body invalid, please check the request body format."


def gateway(*script: Step, served_by: str | None = None, entry: Exception | None = None) -> Gateway:
    return Gateway(ScriptedPipeline(*script, served_by=served_by, entry=entry))


async def test_a_prompt_is_answered_as_json() -> None:
    app = gateway(Delta("你好", 2), Delta("!", 1, "stop"))
    reply = await app.post(generation())
    assert reply.status == 200
    assert reply.body == (GOLDEN / "text-answer.json").read_bytes()
    assert reply.headers == {
        "content-type": "application/json",
        "content-length": str(len(reply.body)),
        "x-request-id": REQUEST_ID,
    }


@pytest.mark.parametrize("asking", [SSE, {"accept": "text/event-stream"}, {"accept": "TEXT/Event-Stream, */*"}])
async def test_either_header_turns_the_reply_into_events(asking: dict[str, str]) -> None:
    reply = await gateway(*HELLO).post(generation(), asking)
    assert reply.status == 200
    assert reply.body == (GOLDEN / "text-cumulative.sse").read_bytes()
    assert reply.headers == {
        "content-type": "text/event-stream;charset=UTF-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "x-request-id": REQUEST_ID,
    }


@pytest.mark.parametrize("accept", ["*/*", "application/json; charset=utf-8"])
async def test_other_accept_headers_mean_json(accept: str) -> None:
    reply = await gateway(*HELLO).post(generation(parameters={"stream": True}), {"accept": accept})
    assert reply.headers["content-type"] == "application/json"


async def test_each_event_leaves_on_its_own() -> None:
    reply = await gateway(*HELLO).post(generation(), SSE)
    *events, end = reply.pieces
    assert end == b""
    assert [event.split(b"\n")[0] for event in events] == [b"id:1", b"id:2", b"id:3"]
    assert all(event.endswith(b"}\n\n") for event in events)


async def test_incremental_events_hold_the_new_piece() -> None:
    reply = await gateway(*HELLO).post(generation(parameters={"incremental_output": True}), SSE)
    assert reply.body == (GOLDEN / "text-incremental.sse").read_bytes()


async def test_choices_are_streamed_with_their_own_usage() -> None:
    script = (Delta("你", 1), Delta("Hi", 2, index=1), Delta("好", 1, "stop"), Delta("!", 1, "length", index=1))
    parameters = {"n": 2, "result_format": "message"}
    reply = await gateway(*script).post(generation(parameters=parameters), SSE)
    assert reply.body == (GOLDEN / "two-choices-cumulative.sse").read_bytes()
    whole = await gateway(*script).post(generation(parameters=parameters))
    assert whole.body == (GOLDEN / "two-choices-answer.json").read_bytes()


async def test_the_call_that_reaches_the_pipeline_is_the_one_that_was_asked_for() -> None:
    app = gateway(*HELLO)
    body = generation(input={"messages": [{"role": "user", "content": "hi"}]}, parameters={"seed": 7, "max_tokens": 5})
    await app.post(body, {"x-dashscope-workspace": "ws_1"})
    assert app.pipeline.calls == [
        Call(
            request_id=REQUEST_ID,
            caller=Caller(1, "ada"),
            model="belle",
            prompt=ChatPrompt((Message("user", "hi"),)),
            sampling=Sampling(seed=7, max_tokens=5),
            workspace="ws_1",
        )
    ]


@pytest.mark.parametrize("value", ["", "a b", "x" * 129, "../x", "-x"])
async def test_a_workspace_that_looks_wrong_is_ignored(value: str) -> None:
    app = gateway(*HELLO)
    assert (await app.post(generation(), {"x-dashscope-workspace": value})).status == 200
    assert app.pipeline.calls[0].workspace is None


async def test_headers_that_sdks_send_are_ignored() -> None:
    headers = {
        "x-dashscope-plugin": '{"a":1}',
        "x-dashscope-datainspection": "enable",
        "x-dashscope-ossresourceresolve": "enable",
        "x-dashscope-async": "disable",
        "x-accel-buffering": "no",
        "user-agent": "dashscope/2.0.2",
    }
    assert (await gateway(*HELLO).post(generation(), headers)).status == 200


async def test_another_model_that_answers_is_named() -> None:
    for headers in ({}, SSE):
        reply = await gateway(*HELLO, served_by="smollm2").post(generation(), headers)
        assert reply.headers["x-dashbelle-served-by"] == "smollm2"
        same = await gateway(*HELLO, served_by="belle").post(generation(), headers)
        assert "x-dashbelle-served-by" not in same.headers


async def test_checks_come_in_the_documented_order() -> None:
    """One request that is wrong in every way; each step repairs what the step before complained about."""
    app = gateway(entry=ModelNotFound())
    key, wrong = AUTHORIZED["authorization"], "Bearer sk-wrong"
    good = json.dumps(generation()).encode()
    steps: list[tuple[str, dict[str, str], bytes, Any]] = [
        ("GET", {"authorization": wrong, "x-dashscope-async": "enable"}, b"[", MethodNotSupported("GET")),
        ("POST", {"authorization": wrong, "x-dashscope-async": "enable"}, b"[", InvalidApiKey()),
        ("POST", {"x-dashscope-async": "enable", "content-type": "text/plain"}, b"[", AsyncNotSupported()),
        ("POST", {"content-type": "text/plain", "content-length": "5000"}, b"[", "Content-Type"),
        ("POST", {"content-length": "5000"}, b"[", PayloadTooLarge()),
        ("POST", {}, b"[", BAD_JSON),
        ("POST", {}, b"{}", 'Required parameter "model" missing from request.'),
        ("POST", {}, good.replace(b'"input"', b'"other"'), "Required input parameter missing from request."),
        ("POST", {}, good[:-1] + b',"parameters":1}', '"parameters"'),
        ("POST", {}, good, ModelNotFound()),
    ]
    for method, headers, body, want in steps:
        fields = {"authorization": key, "content-length": str(len(body)), **headers}
        reply = await app.run(Connection([body]), scope_of(method, GENERATION_PATH, fields))
        if isinstance(want, str):
            status, _, message = error_of(reply)
            assert status == 400
            assert want in message
        else:
            assert same_error(reply, want), want


@pytest.mark.parametrize("value", ["", "Bearer sk-unknown", f"Basic {KEY}", KEY, "Bearer"])
async def test_no_key_means_401_and_an_unread_body(value: str) -> None:
    app = gateway(*HELLO)
    connection, scope = request_of(generation(), {"authorization": value})
    unread_at_answer = []

    async def send(message: ASGIMessage) -> None:
        unread_at_answer.append(len(connection.unread))
        await connection.send(message)

    await app.app(scope, connection.receive, send)
    assert same_error(connection.reply, InvalidApiKey())
    assert unread_at_answer[0] == 1
    assert connection.reply.headers["connection"] == "close"
    assert app.pipeline.calls == []


@pytest.mark.parametrize("value", ["application/json;charset=UTF-8", "Application/JSON", "application/json ; a=b"])
async def test_json_content_types_are_accepted(value: str) -> None:
    assert (await gateway(*HELLO).post(generation(), {"content-type": value})).status == 200


@pytest.mark.parametrize("value", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp", "json"])
async def test_other_content_types_are_refused(value: str) -> None:
    assert error_of(await gateway(*HELLO).post(generation(), {"content-type": value}))[:2] == (400, "InvalidParameter")


async def test_encrypted_requests_are_refused() -> None:
    reply = await gateway(*HELLO).post(generation(), {"x-dashscope-encryptionkey": "abc"})
    assert error_of(reply) == (400, "InvalidParameter", "Encrypted requests are not supported.")


async def test_a_body_over_the_limit_is_refused_and_the_connection_closed() -> None:
    reply = await gateway(*HELLO).post(generation(input={"prompt": "x" * 5000}))
    assert same_error(reply, PayloadTooLarge())
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b"[]", b'"x"', b"[" * 4000])
async def test_bodies_that_are_no_json_object_are_refused(body: bytes) -> None:
    assert error_of(await gateway(*HELLO).post(body)) == (400, "InvalidParameter", BAD_JSON)


async def test_a_body_over_a_megabyte_is_parsed_too() -> None:
    app = Gateway(ScriptedPipeline(*HELLO), limits=ExchangeLimits(max_body_bytes=2**22))
    text = "长" * 2**19
    assert (await app.post(generation(input={"prompt": text}))).status == 200
    assert app.pipeline.calls[0].prompt == TextPrompt(text)
    assert error_of(await app.post(b"[" * 2**21))[0] == 400


@pytest.mark.parametrize("headers", [{}, SSE])
@pytest.mark.parametrize("error", [QueueFull(retry_after_s=3), ModelNotFound("No model 'x'.")])
async def test_a_refusal_is_a_status_with_json(error: DashbelleError, headers: dict[str, str]) -> None:
    reply = await gateway(entry=error).post(generation(), headers)
    assert same_error(reply, error)
    assert reply.headers.get("retry-after") == (str(error.retry_after_s) if error.retry_after_s else None)
    assert "connection" not in reply.headers


@pytest.mark.parametrize("headers", [{}, SSE])
async def test_a_failure_before_the_first_delta_is_a_status_with_json(headers: dict[str, str]) -> None:
    reply = await gateway(RequestTimedOut()).post(generation(), headers)
    assert same_error(reply, RequestTimedOut())


async def test_a_failure_within_a_json_answer_leaves_no_half_answer() -> None:
    assert same_error(await gateway(HELLO[0], EngineFailed()).post(generation()), EngineFailed())


async def test_a_failure_within_a_stream_is_its_last_event() -> None:
    reply = await gateway(HELLO[0], InternalError()).post(generation(), SSE)
    assert reply.status == 200
    assert reply.body == (GOLDEN / "error-mid-stream.sse").read_bytes()
    assert reply.ended


async def test_a_drained_stream_ends_with_an_event_and_not_with_a_cut() -> None:
    reply = await gateway(HELLO[0], DrainedAway(retry_after_s=5)).post(generation(), SSE)
    last = reply.body.split(b"\n\n")[-2]
    assert last.startswith(b'id:2\nevent:error\n:HTTP_STATUS/503\ndata:{"code":"ModelUnavailable"')
    assert reply.ended


@pytest.mark.item(74)
async def test_silence_in_a_stream_is_filled_with_a_comment() -> None:
    class Released(Connection):
        """Lets the stream go on after the first heartbeat."""

        async def send(self, message: ASGIMessage) -> None:
            await super().send(message)
            if message.get("body") == b":\n":
                proceed.set()

    proceed = asyncio.Event()
    deltas = (Delta("你", 1), proceed, Delta("", 0, "stop"))
    app = Gateway(ScriptedPipeline(*deltas), limits=ExchangeLimits(max_body_bytes=4096, heartbeat_s=0.0))
    connection, scope = request_of(generation(), SSE)
    released = Released(connection.unread)
    reply = await app.run(released, scope)
    assert reply.body == (GOLDEN / "heartbeat.sse").read_bytes()


@given(st.binary() | st.text().map(str.encode))
def test_any_body_gets_an_answer_of_the_protocol(body: bytes) -> None:
    reply = asyncio.run(gateway(*HELLO).post(body))
    assert error_of(reply)[0] == 400


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "authorization": st.text(st.characters(codec="latin-1", exclude_characters="\r\n")),
            "content-type": st.text(st.characters(codec="latin-1", exclude_characters="\r\n")),
            "accept": st.text(st.characters(codec="latin-1", exclude_characters="\r\n")),
            "x-dashscope-sse": st.text(st.characters(codec="latin-1", exclude_characters="\r\n")),
        },
    )
)
def test_any_headers_get_an_answer_of_the_protocol(headers: dict[str, str]) -> None:
    async def ask() -> None:
        connection, scope = request_of(generation())
        fields = {
            **dict(scope["headers"]),
            **{name.encode(): value.encode("latin-1") for name, value in headers.items()},
        }
        scope["headers"] = list(fields.items())
        reply = await gateway(*HELLO).run(connection, scope)
        assert reply.status in (200, 400, 401)
        assert reply.ended

    asyncio.run(ask())


def test_the_default_limits_are_the_documented_ones() -> None:
    assert (LIMITS.body_stall_s, LIMITS.drain_s, LIMITS.heartbeat_s) == (8.0, 1.0, 15.0)
