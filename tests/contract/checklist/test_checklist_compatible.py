"""The compatible mode over raw HTTP. Item 94 of docs/conformance.md."""

from __future__ import annotations

import json

import pytest
from raw_calls import get, post

from running_server import RunningServer

CHAT = "/compatible-mode/v1/chat/completions"
ASKED = "你好,世界 😀"
SAID = f"Human:{ASKED}\n\nAssistant:"
QUESTION = {"model": "echo", "messages": [{"role": "user", "content": ASKED}]}


def test_94_a_chat_is_answered(echo_server: RunningServer) -> None:
    told = post(echo_server, QUESTION, path=CHAT).json()
    assert (told["object"], told["model"]) == ("chat.completion", "echo")
    (choice,) = told["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"] == {"role": "assistant", "content": SAID}
    tokens = len(SAID.encode())
    assert told["usage"].items() >= {"prompt_tokens": tokens, "completion_tokens": tokens}.items()


@pytest.mark.parametrize("usage", [True, False])
def test_94_a_stream_ends_with_done_and_has_usage_when_asked_for(echo_server: RunningServer, *, usage: bool) -> None:
    body = {**QUESTION, "stream": True, "stream_options": {"include_usage": usage}}
    raw = post(echo_server, body, path=CHAT).text
    assert raw.endswith("data: [DONE]\n\n")
    lines = [line.removeprefix("data: ") for line in raw.removesuffix("data: [DONE]\n\n").split("\n\n") if line]
    chunks = [json.loads(line) for line in lines]
    deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(deltas) == SAID
    counts = [chunk["usage"]["total_tokens"] for chunk in chunks if chunk.get("usage")]
    assert counts == ([2 * len(SAID.encode())] if usage else [])


@pytest.mark.parametrize(
    ("changes", "key", "status", "code"),
    [
        ({}, "sk-wrong", 401, "invalid_api_key"),
        ({"model": "belle-7b"}, "", 404, "model_not_found"),
        ({"temperature": 2.5}, "", 400, "invalid_parameter_error"),
    ],
)
def test_94_errors_have_openais_form(
    echo_server: RunningServer, changes: dict[str, object], key: str, status: int, code: str
) -> None:
    headers = {"Authorization": f"Bearer {key or echo_server.key}"}
    reply = post(echo_server, QUESTION | changes, headers, path=CHAT)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert {"message", "type", "param", "code"} <= set(reply.json()["error"])


def test_94_models_are_listed(echo_server: RunningServer) -> None:
    told = get(echo_server, "/compatible-mode/v1/models").json()
    assert told["object"] == "list"
    assert [model["id"] for model in told["data"]] == ["echo"]
