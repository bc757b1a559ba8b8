"""What OpenAI's SDK sees of the compatible routes, in calls whose answers are known."""

from __future__ import annotations

from typing import Any

import pytest
from openai_release import Observations

SAID = "Human:Hi 你好 😀\n\nAssistant:"
TOKENS = len(SAID.encode())
Chunk = dict[str, Any]


def joined(chunks: list[Chunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"]["content"] for choice in choices)


def test_models_are_listed_and_shown(echo: Observations) -> None:
    assert echo["models"] == ["echo"]
    assert echo["one_model"].items() >= {"id": "echo", "object": "model", "owned_by": "dashbelle"}.items()
    assert echo["no_such_model"]["raised"][0] == "NotFoundError"


def test_a_chat_has_text_usage_and_one_id(echo: Observations) -> None:
    completion = echo["chat"]
    (choice,) = completion["choices"]
    assert (choice["message"]["content"], choice["message"]["role"]) == (SAID, "assistant")
    assert (choice["finish_reason"], choice["index"], choice["logprobs"]) == ("stop", 0, None)
    counts = {"prompt_tokens": TOKENS, "completion_tokens": TOKENS, "total_tokens": 2 * TOKENS}
    assert completion["usage"].items() >= counts.items()
    assert completion["id"] == f"chatcmpl-{completion['header']}"
    assert (completion["object"], completion["model"]) == ("chat.completion", "echo")


def test_every_argument_can_be_given(echo: Observations) -> None:
    (choice,) = echo["chat_with_everything"]["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Human:Hi 你好 ", "stop")


def test_two_choices_have_their_indices_and_the_tokens_of_both(echo: Observations) -> None:
    completion = echo["two_choices"]
    assert [(choice["index"], choice["finish_reason"]) for choice in completion["choices"]] == [
        (0, "length"),
        (1, "length"),
    ]
    assert completion["usage"]["completion_tokens"] == 8


def test_a_stream_is_the_text_of_a_call_in_pieces(echo: Observations) -> None:
    chunks = echo["stream"]
    assert joined(chunks) == SAID
    assert chunks[0]["choices"][0]["delta"].items() >= {"content": "", "role": "assistant"}.items()
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_usage_comes_last_without_a_choice(echo: Observations) -> None:
    *before, last = echo["stream"]
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 2 * TOKENS)
    assert all(chunk["usage"] is None for chunk in before)
    assert all(chunk["usage"] is None for chunk in echo["stream_of_two"])


def test_two_streamed_choices_keep_apart(echo: Observations) -> None:
    assert (joined(echo["stream_of_two"], 0), joined(echo["stream_of_two"], 1)) == (SAID, SAID)


def test_probabilities_are_told_token_by_token(echo: Observations) -> None:
    told = echo["logprobs"]["choices"][0]["logprobs"]["content"]
    assert bytes(byte for entry in told for byte in entry["bytes"]).decode() == SAID
    assert {entry["logprob"] for entry in told} == {0.0}
    assert all(len(entry["top_logprobs"]) == 1 for entry in told)


def test_a_text_is_completed_whole_and_streamed(echo: Observations) -> None:
    (choice,) = echo["text"]["choices"]
    assert choice["text"] == "Human:hi\n\nAssistant:"
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert choice["logprobs"]["text_offset"] == list(range(len(choice["text"])))
    assert "".join(chunk["choices"][0]["text"] for chunk in echo["text_stream"]) == "hi"


@pytest.mark.parametrize(
    ("name", "raised", "status", "code"),
    [
        ("wrong_key", "AuthenticationError", 401, "invalid_api_key"),
        ("unknown_model", "NotFoundError", 404, "model_not_found"),
        ("bad_parameter", "BadRequestError", 400, "invalid_parameter_error"),
        ("bad_parameter_streamed", "BadRequestError", 400, "invalid_parameter_error"),
        ("too_many_top_logprobs", "BadRequestError", 400, "invalid_parameter_error"),
        ("tools", "BadRequestError", 400, "invalid_parameter_error"),
        ("a_schema_for_echo", "BadRequestError", 400, "invalid_parameter_error"),
        ("embeddings", "NotFoundError", 404, "model_not_supported"),
    ],
)
def test_errors_are_the_sdks_own_classes(echo: Observations, name: str, raised: str, status: int, code: str) -> None:
    error = echo[name]
    assert error["raised"][0] == raised
    assert (error["status_code"], error["code"], error["param"]) == (status, code, None)
    assert error["type"] == "invalid_request_error"
    assert error["request_id"]


def test_error_messages_name_the_rule(echo: Observations) -> None:
    assert "Temperature should be in [0.0, 2.0)" in echo["bad_parameter"]["text"]
    assert "The tool call is not supported." in echo["tools"]["text"]
    assert "does not support response_format" in echo["a_schema_for_echo"]["text"]
    assert "Range of top_logprobs should be [0, 1]" in echo["too_many_top_logprobs"]["text"]


def test_the_asynchronous_client_sees_the_same(echo: Observations) -> None:
    assert echo["asynchronous"] == [SAID, SAID]
    assert echo["asynchronous_at_once"] == [SAID] * 12
    assert echo["asynchronous_error"]["raised"][0] == "AuthenticationError"
