"""The tokenizer's count is what a call with the same body is billed for: on a model of bytes and on a real one."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from running_server import RunningServer

GENERATION = "/api/v1/services/aigc/text-generation/generation"
TOKENIZER = "/api/v1/tokenizer"
INPUTS = {
    "belle": {"prompt": "Human:你好，介绍一下北京。\n\nAssistant:"},
    "plain": {"prompt": "Just say yes. 😀\u0000"},
    "special": {"prompt": "<|im_start|>user\nHi<|im_end|>"},
    "messages": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "北京在哪里？"}]},
    "parts": {"messages": [{"role": "user", "content": [{"text": "one "}, {"type": "text", "text": "two"}]}]},
    "history": {"history": [{"user": "Hi", "bot": "Hello!"}], "prompt": "Bye"},
}


def post(server: RunningServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = httpx2.post(
        server.url + path, json=body, headers={"Authorization": f"Bearer {server.key}"}, timeout=100, trust_env=False
    )
    assert reply.status_code == 200, reply.text
    value: dict[str, Any] = reply.json()
    return value


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("server_and_model", [("echo_server", "echo"), ("belle_server", "belle-llama-13b-2m-v1")])
@pytest.mark.item(55)
def test_a_prompt_has_as_many_tokens_as_a_call_is_billed_for(
    request: pytest.FixtureRequest, server_and_model: tuple[str, str], name: str
) -> None:
    fixture, model = server_and_model
    server: RunningServer = request.getfixturevalue(fixture)
    body = {"model": model, "input": INPUTS[name], "parameters": {"max_tokens": 1}}
    tokens = post(server, TOKENIZER, body)
    billed = post(server, GENERATION, body)["usage"]["input_tokens"]
    assert tokens["usage"]["input_tokens"] == len(tokens["output"]["tokens"]) == len(tokens["output"]["token_ids"])
    assert tokens["usage"]["input_tokens"] == billed


def test_tokenizing_is_not_metered(echo_server: RunningServer) -> None:
    before = len(echo_server.usage())
    post(echo_server, TOKENIZER, {"model": "echo", "input": {"prompt": "hi"}})
    assert len(echo_server.usage()) == before


def test_a_real_models_tokens_are_its_prompt_template_included(belle_server: RunningServer) -> None:
    body = {"model": "belle-llama-13b-2m-v1", "input": {"prompt": "Human:Hello!\n\nAssistant:"}}
    text = "".join(post(belle_server, TOKENIZER, body)["output"]["tokens"])
    assert text.endswith("<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n")
