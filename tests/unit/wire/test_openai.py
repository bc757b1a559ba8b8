"""The compatible routes: where they are, how they answer, and errors in their own form from the first check on."""

from __future__ import annotations

import asyncio
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
    Reply,
    ScriptedPipeline,
    request_of,
    scope_of,
)

from dashbelle.engine.catalog import Catalog, Served
from dashbelle.engine.echo import EchoEngine
from dashbelle.errors import EngineDied, QueueFull, SchemaRefused
from dashbelle.models.templates import BelleTemplate
from dashbelle.vocabulary import ChatPrompt, Defaults, Delta, Message, TextPrompt

GOLDEN = Path(__file__).parents[2] / "golden"
PREFIX = "/compatible-mode/v1"
CHAT, ALIAS, TEXT = f"{PREFIX}/chat/completions", "/api/v1/chat/completions", f"{PREFIX}/completions"
HELLO = (Delta("你", 1), Delta("好", 1), Delta("", 0, "stop"))
ECHO = Served("echo", EchoEngine(), BelleTemplate(), Defaults(1.0, 1.0, 0, 1.0, 100))
CATALOG = Catalog({"echo": ECHO}, {"belle": "echo"})


def chat(**more: object) -> dict[str, Any]:
    return {"model": "belle", "messages": [{"role": "user", "content": "hi"}], **more}


def error_of(reply: Reply) -> tuple[int | None, str, str]:
    """Status, code and message of an error reply, after checking its form."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"error", "request_id"}
    assert reply.json["error"].keys() == {"message", "type", "param", "code"}
    assert reply.json["request_id"] == reply.headers["x-request-id"] == REQUEST_ID
    assert reply.ended
    return reply.status, reply.json["error"]["code"], reply.json["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, ALIAS])
async def test_a_chat_is_answered(path: str) -> None:
    app = Gateway(ScriptedPipeline(*HELLO))
    reply = await app.post(chat(max_tokens=9), {"x-dashscope-workspace": "w1"}, path)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json["choices"][0]["message"]["content"] == "你好"
    assert (reply.json["id"], reply.json["created"]) == (f"chatcmpl-{REQUEST_ID}", 1_700_000_000)
    assert reply.headers["x-request-id"] == REQUEST_ID
    (call,) = app.pipeline.calls
    assert (call.model, call.prompt) == ("belle", ChatPrompt((Message("user", "hi"),)))
    assert (call.sampling.max_tokens, call.workspace, call.caller.key_name) == (9, "w1", "ada")


async def test_a_stream_is_asked_for_in_the_body_and_in_no_header() -> None:
    app = Gateway(ScriptedPipeline(*HELLO))
    reply = await app.post(chat(stream=True), path=CHAT)
    assert reply.headers["content-type"] == "text/event-stream;charset=UTF-8"
    assert reply.body == (GOLDEN / "openai-chat.sse").read_bytes()
    whole = await app.post(chat(), {"accept": "text/event-stream", "x-dashscope-sse": "enable"}, CHAT)
    assert whole.headers["content-type"] == "application/json"


async def test_each_delta_is_sent_at_once() -> None:
    reply = await Gateway(ScriptedPipeline(*HELLO)).post(chat(stream=True), path=CHAT)
    assert len([piece for piece in reply.pieces if piece]) == len(HELLO) + 1


async def test_usage_ends_a_stream_that_asked_for_it() -> None:
    body = chat(stream=True, stream_options={"include_usage": True})
    reply = await Gateway(ScriptedPipeline(Delta("你好", 2, "length"))).post(body, path=CHAT)
    assert reply.body == (GOLDEN / "openai-chat-usage.sse").read_bytes()


async def test_a_text_is_completed() -> None:
    app = Gateway(ScriptedPipeline(*HELLO))
    body = {"model": "belle", "prompt": "Human:hi\n\nAssistant:"}
    assert (await app.post(body, path=TEXT)).json["choices"][0]["text"] == "你好"
    assert app.pipeline.calls[0].prompt == TextPrompt("Human:hi\n\nAssistant:")
    streamed = await app.post({**body, "stream": True}, path=TEXT)
    assert streamed.body == (GOLDEN / "openai-text.sse").read_bytes()


async def test_a_stand_in_is_named() -> None:
    app = Gateway(ScriptedPipeline(*HELLO, served_by="smollm2"))
    for body in (chat(), chat(stream=True)):
        reply = await app.post(body, path=CHAT)
        assert reply.headers["x-dashbelle-served-by"] == "smollm2"


@pytest.mark.parametrize(
    "path",
    [
        f"{CHAT}/",
        f"/{CHAT}",
        "/compatible-mode//v1//chat/completions",
        "/compatible-mode/v1chat/completions",
        "/api/v1chat/completions",
        f"{ALIAS}/",
    ],
)
async def test_the_path_may_be_joined_in_several_ways(path: str) -> None:
    assert (await Gateway(ScriptedPipeline(*HELLO)).post(chat(), path=path)).status == 200


@pytest.mark.parametrize("path", [CHAT, ALIAS, TEXT, f"{PREFIX}/embeddings"])
async def test_the_key_is_proved_first(path: str) -> None:
    refusal = (401, "invalid_api_key", "Incorrect API key provided.")
    assert error_of(await Gateway().post(b"no json", {"authorization": "Bearer sk-wrong"}, path)) == refusal
    for listing in (f"{PREFIX}/models", f"{PREFIX}/models/echo"):
        assert error_of(await Gateway(catalog=CATALOG).request("GET", listing)) == refusal


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}/", f"{PREFIX}/responses", f"{PREFIX}/files/x"])
async def test_unknown_paths_have_the_compatible_form(path: str) -> None:
    assert error_of(await Gateway().request("GET", path)) == (404, "not_found", "Not found!")


async def test_another_method_has_the_compatible_form() -> None:
    for path in (CHAT, ALIAS):
        status, code, message = error_of(await Gateway().request("GET", path))
        assert (status, code) == (400, "invalid_parameter_error")
        assert message == "Request method 'GET' is not supported."


async def test_a_body_that_is_too_large_has_the_compatible_form() -> None:
    reply = await Gateway().post(b"x" * (LIMITS.max_body_bytes + 1), path=CHAT)
    assert error_of(reply) == (413, "request_too_large", "Payload Too Large")


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"{", {}, "Required body invalid, please check the request body format."),
        (chat(), {"content-type": "text/plain"}, "Content-Type must be application/json."),
        (chat(n=9), {}, "Range of n should be [1, 4]"),
        (chat(stream=True, n=9), {}, "Range of n should be [1, 4]"),
        (chat(model=None), {}, "you must provide a model parameter"),
    ],
)
async def test_a_bad_request_is_a_400(body: object, headers: dict[str, str], message: str) -> None:
    assert error_of(await Gateway().post(body, headers, CHAT)) == (400, "invalid_parameter_error", message)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_delta_is_a_status(*, stream: bool) -> None:
    full = Gateway(ScriptedPipeline(entry=QueueFull(retry_after_s=3)))
    reply = await full.post(chat(stream=stream), path=CHAT)
    assert error_of(reply)[:2] == (429, "limit_requests")
    assert reply.headers["retry-after"] == "3"
    strict = await Gateway(ScriptedPipeline(SchemaRefused())).post(chat(stream=stream), path=CHAT)
    assert error_of(strict)[:2] == (400, "invalid_parameter_error")


async def test_an_error_within_a_stream_is_its_last_event_before_done() -> None:
    app = Gateway(ScriptedPipeline(HELLO[0], EngineDied()))
    reply = await app.post(chat(stream=True), path=CHAT)
    assert reply.body == (GOLDEN / "openai-error-mid-stream.sse").read_bytes()
    assert (reply.status, reply.ended) == (200, True)
    assert app.log_lines[-1]["code"] == "InternalError"


async def test_a_bug_is_told_in_the_compatible_form_and_nothing_of_it() -> None:
    reply = await Gateway(ScriptedPipeline(ValueError("canary-bug"))).post(chat(), path=CHAT)
    assert error_of(reply)[:2] == (500, "internal_error")
    assert b"canary" not in reply.body


async def test_native_routes_keep_their_own_form() -> None:
    reply = await Gateway().post(b"{")
    assert reply.json.keys() == {"code", "message", "request_id"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_ends_its_call(*, stream: bool) -> None:
    app = Gateway(ScriptedPipeline(HELLO[0], asyncio.Event(), *HELLO[1:]))
    connection, scope = request_of(chat(stream=stream), path=CHAT)
    running = asyncio.create_task(app.run(connection, scope))
    await app.pipeline.reached.wait()
    connection.hang_up.set()
    await running
    assert (app.pipeline.cancelled, app.pipeline.open_calls) == (1, 0)


async def test_models_are_listed_with_their_stand_ins() -> None:
    reply = await Gateway(catalog=CATALOG).request("GET", f"{PREFIX}/models", AUTHORIZED)
    assert (reply.status, reply.body) == (200, (GOLDEN / "openai-models.json").read_bytes())


async def test_a_model_is_shown_by_its_name() -> None:
    app = Gateway(catalog=CATALOG)
    shown = await app.request("GET", f"{PREFIX}/models/belle", AUTHORIZED)
    assert shown.json == {"id": "belle", "object": "model", "created": 1_700_000_000, "owned_by": "dashbelle"}
    assert error_of(await app.request("GET", f"{PREFIX}/models/gpt-5", AUTHORIZED))[:2] == (404, "model_not_found")


async def test_embeddings_are_not_made() -> None:
    reply = await Gateway().post({"model": "text-embedding-v4", "input": "hi"}, path=f"{PREFIX}/embeddings")
    message = "Unsupported model `text-embedding-v4` for OpenAI compatibility mode."
    assert error_of(reply) == (404, "model_not_supported", message)


async def test_a_body_that_breaks_off_has_the_compatible_form() -> None:
    connection = Connection([b'{"model"'], whole=False)
    connection.hang_up.set()
    scope = scope_of("POST", CHAT, {"authorization": f"Bearer {KEY}", "content-length": "100"})
    reply = await Gateway().run(connection, scope)
    assert error_of(reply)[:2] == (400, "invalid_parameter_error")
