"""Item 47: every keyword of Generation.call is obeyed, ignored or refused with its reason; none is an error of ours."""

from __future__ import annotations

from typing import Any

import pytest
from questions import PROMPT
from sdk_release import Observations

REFUSED = {
    "enable_search on": "This model does not support enable_search.",
    "tools": "The tool call is not supported.",
    "n as text": 'Parameter n greater than 1 needs "result_format": "message".',
    "logprobs on": 'Parameter logprobs needs "result_format": "message".',
    "top_logprobs": "Range of top_logprobs should be [0, 1]: the engine tells the probability of the token that it "
    "chose, and of no other.",
    "response_format json": "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
    "'json_object'.",
}
IGNORED = [
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "repetition_penalty",
    "presence_penalty",
    "max_length",
    "incremental_output",
    "tool_choice",
    "enable_thinking",
    "thinking_budget",
    "logprobs",
    "search_options",
    "parallel_tool_calls",
    "response_format",
    "output_format",
    "plugins",
    "workspace",
    "headers",
    "request_timeout",
    "task_id",
    "debug",
    "customized_model_id",
    "unknown",
]
"""Or without a trace in what echo says."""
OBEYED = {
    "max_tokens": ("Human", "length"),
    "stop": ("Human:你好,", "stop"),
    "stop as a list": ("Human:你好,", "stop"),
    "stop as token ids": ("Human:", "stop"),
    "enable_search": (PROMPT, "stop"),
}
BY_THEMSELVES = {"model", "prompt", "history", "api_key", "messages", "kwargs", "n", "result_format"}
"""Told apart elsewhere."""


@pytest.mark.parametrize("keyword", IGNORED)
def test_47_a_keyword_is_borne(sync: Observations, keyword: str) -> None:
    assert sync["keywords"][keyword]["output"]["text"] == PROMPT


@pytest.mark.parametrize("keyword", OBEYED)
def test_47_a_keyword_is_obeyed(sync: Observations, keyword: str) -> None:
    output = sync["keywords"][keyword]["output"]
    assert (output["text"], output["finish_reason"]) == OBEYED[keyword]


@pytest.mark.parametrize("keyword", REFUSED)
def test_47_a_keyword_is_refused_with_its_reason(sync: Observations, keyword: str) -> None:
    response = sync["keywords"][keyword]
    assert (response["status_code"], response["code"]) == (400, "InvalidParameter")
    assert response["message"] == REFUSED[keyword]


@pytest.mark.parametrize(("keyword", "answers"), [("result_format", 1), ("n", 2)])
def test_47_a_keyword_makes_choices(sync: Observations, keyword: str, answers: int) -> None:
    choices: list[dict[str, Any]] = sync["keywords"][keyword]["output"]["choices"]
    assert [choice["index"] for choice in choices] == list(range(answers))
    assert {choice["message"]["content"] for choice in choices} == {PROMPT}


def test_47_no_keyword_of_the_signature_is_left_out(sync: Observations) -> None:
    assert set(sync["signature"]) - BY_THEMSELVES <= set(sync["keywords"])
    assert set(sync["keywords"]) == {*IGNORED, *OBEYED, *REFUSED, "plugins as text", "result_format", "n"}
