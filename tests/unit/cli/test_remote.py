"""A server as its clients see it: each failure is one line that says what to do."""

from __future__ import annotations

import httpx2
import pytest
from fake_server import KEY, URL, FakeServer, error, event, refusing

from dashbelle.cli.remote import CannotAsk, KeyRefused, ListedModel, RemoteServer, base_url, choose, is_loopback

MODELS = [ListedModel("belle", "small"), ListedModel("small", "small")]


async def answer_of(transport: FakeServer, key: str = KEY) -> str:
    server = RemoteServer(URL, key, transport=transport)
    return "".join([piece.text async for piece in server.answer("echo", [{"role": "user", "content": "hi"}])])


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("https://llm.example.com/api/v1/", "https://llm.example.com"),
        ("https://llm.example.com/belle/api/v1", "https://llm.example.com/belle"),
        ("localhost:9000", "http://localhost:9000"),
    ],
)
def test_a_url_may_be_given_as_sdks_have_it(given: str, url: str) -> None:
    assert base_url(given) == url


@pytest.mark.parametrize("given", ["", "http://", "ftp://x", "http://[::1", "http://x:99999", "http://x:0", "x:y"])
def test_what_is_no_url_is_said_to_be_none(given: str) -> None:
    with pytest.raises(CannotAsk, match="is no URL such as"):
        RemoteServer(given, None)


@pytest.mark.parametrize(
    ("host", "near"),
    [("localhost", True), ("127.0.0.9", True), ("::1", True), ("10.0.0.1", False), ("localhost.example.com", False)],
)
def test_loopback_is_told_from_other_hosts(host: str, near: bool) -> None:  # noqa: FBT001 - pytest fills it in
    assert is_loopback(host) is near


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine() -> None:
    assert not RemoteServer("http://127.0.0.1:8080", None)._client.trust_env
    assert RemoteServer("http://llm.example.com", None)._client.trust_env


async def test_models_come_with_what_answers_for_them() -> None:
    server = RemoteServer(URL, KEY, transport=FakeServer(models=[("belle", "small"), ("small", "small")]))
    assert await server.models() == MODELS


def test_the_first_model_is_the_default_and_an_unknown_one_is_told_with_the_others() -> None:
    assert choose(MODELS, None).name == "belle"
    assert choose(MODELS, "small").name == "small"
    with pytest.raises(CannotAsk, match="no model 'x'; it has: belle, small"):
        choose(MODELS, "x")
    with pytest.raises(CannotAsk, match="has no model"):
        choose([], None)


async def test_an_answer_is_asked_for_as_a_stream_of_new_pieces() -> None:
    transport = FakeServer()
    assert await answer_of(transport) == "你好"
    assert transport.bodies == [
        {
            "model": "echo",
            "input": {"messages": [{"role": "user", "content": "hi"}]},
            "parameters": {"result_format": "message", "incremental_output": True},
        }
    ]


async def test_comments_and_cut_pieces_change_nothing() -> None:
    whole = b":\n" + event("你") + b":\n" + event("\u2028好", finish="stop")
    assert await answer_of(FakeServer(*(whole[place : place + 7] for place in range(0, len(whole), 7)))) == "你\u2028好"


async def test_a_refused_key_is_told_from_other_errors() -> None:
    with pytest.raises(KeyRefused, match=r"refuses the API key; 'dashbelle keys create"):
        await answer_of(FakeServer(), key="sk-wrong")


@pytest.mark.parametrize(
    ("reply", "line"),
    [
        (refusing(httpx2.ConnectError("refused")), r"no server answers at http://server \(refused\); start one"),
        (refusing(httpx2.ReadTimeout("slow")), "did not answer in time"),
        (refusing(httpx2.RemoteProtocolError("half a head")), "broke off: half a head"),
        (lambda _: error(404, "ModelNotFound", "None such."), r"^None such. \(ModelNotFound\)$"),
        (lambda _: httpx2.Response(404, html="<h1>"), r"does not speak DashScope's protocol \(status 404 to POST /"),
        (lambda _: httpx2.Response(502, html="<h1>"), r"cannot reach the server behind it \(status 502\)"),
        (lambda _: httpx2.Response(301, headers={"location": "https://x/"}), "sends callers on to https://x/"),
        (lambda _: httpx2.Response(404, json={"error": {"message": "nope"}}), "does not speak"),
    ],
)  # fmt: skip
async def test_every_failure_is_one_line(reply: object, line: str) -> None:
    with pytest.raises(CannotAsk, match=line) as caught:
        await answer_of(FakeServer(generation=reply))  # type: ignore[arg-type] # a reply or what raises
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("piece", "line"),
    [
        (b'event:error\n:HTTP_STATUS/500\ndata:{"code":"Bug","message":"Oh."}\n\n', r"^Oh. \(Bug\)$"),
        (httpx2.ReadError("reset"), "broke off: reset"),
        (b"data:{}\n\n", "does not speak"),
        (b"data:nonsense\n\n", "does not speak"),
        (b'data:{"output":{"text":"a"}}\n\n', "does not speak"),
    ],
)  # fmt: skip
async def test_so_is_every_failure_within_a_stream(piece: bytes | Exception, line: str) -> None:
    with pytest.raises(CannotAsk, match=line):
        await answer_of(FakeServer(event("a"), piece))


async def test_models_of_another_protocol_are_told() -> None:
    server = RemoteServer(URL, KEY, transport=FakeServer(models=lambda _: httpx2.Response(200, json={"data": []})))  # type: ignore[arg-type]
    with pytest.raises(CannotAsk, match="does not speak"):
        await server.models()
