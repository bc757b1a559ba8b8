"""Calls without a stream through the 1.x surface. Numbers are items of docs/protocol.md's checklist."""

from __future__ import annotations

import re

import pytest
from questions import MESSAGES, PROMPT, RENDERED
from sdk_release import Observations

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.parametrize("base", ["base_with_slash", "base_without_slash"])
def test_10_the_base_address_may_end_with_a_slash_or_not(sync: Observations, base: str) -> None:
    whole, streamed = sync[base]
    assert (whole["status_code"], whole["output"]["text"]) == (200, PROMPT)
    assert (streamed["status_code"], streamed["output"]["text"]) == (200, PROMPT)


def test_13_a_wrong_key_is_a_response_and_no_exception(either: Observations) -> None:
    response = either["wrong_key"]
    assert (response["status_code"], response["code"]) == (401, "InvalidApiKey")
    assert response["message"] == "Invalid API-key provided."
    assert UUID.fullmatch(response["request_id"])
    assert response["output"] is None


def test_13_a_wrong_key_ends_a_stream_with_one_item(sync: Observations) -> None:
    (item,) = sync["wrong_key_streamed"]
    assert (item["status_code"], item["code"]) == (401, "InvalidApiKey")


@pytest.mark.parametrize("keyword", ["workspace", "plugins", "plugins as text", "headers"])
def test_17_workspace_plugins_and_own_headers_do_no_harm(sync: Observations, keyword: str) -> None:
    assert sync["keywords"][keyword]["output"]["text"] == PROMPT


def test_18_a_call_that_asks_for_data_inspection_is_answered(sync: Observations) -> None:
    sent, response = sync["data_inspection"]
    assert sent == "enable"
    assert response["output"]["text"] == PROMPT


def test_28_an_unknown_model_is_a_response_with_404(sync: Observations) -> None:
    assert (sync["unknown_model"]["status_code"], sync["unknown_model"]["code"]) == (404, "ModelNotFound")


def test_48_a_prompt_is_answered_with_text_reason_and_usage(either: Observations) -> None:
    response = either["prompt_call"]
    tokens = len(PROMPT.encode())
    assert response["output"] == {"text": PROMPT, "finish_reason": "stop", "choices": None}
    assert response["usage"] == {"input_tokens": tokens, "output_tokens": tokens, "total_tokens": 2 * tokens}
    assert (response["status_code"], response["code"], response["message"]) == (200, "", "")
    assert UUID.fullmatch(response["request_id"])


def test_49_messages_are_answered_with_a_message(either: Observations) -> None:
    (choice,) = either["message_call"]["output"]["choices"]
    assert choice["message"] == {"role": "assistant", "content": RENDERED}
    assert choice["finish_reason"] == "stop"


def test_49_programs_read_responses_by_attributes(sync: Observations) -> None:
    assert sync["attributes"] == [200, "assistant", RENDERED, "stop", len(RENDERED.encode())]


def test_50_messages_without_a_format_are_answered_with_text(sync: Observations) -> None:
    assert sync["messages_as_text"]["output"] == {"text": RENDERED, "finish_reason": "stop", "choices": None}


def test_51_a_prompt_behind_messages_is_the_last_turn(sync: Observations) -> None:
    rendered = f"Human:{MESSAGES[0]['content']}\n\nAssistant:hi</s>Human:third\n\nAssistant:"
    assert sync["messages_and_prompt"]["output"]["text"] == rendered


def test_51_a_history_is_what_was_said_before_the_prompt(sync: Observations) -> None:
    rendered = "Human:first\n\nAssistant:one</s>Human:second\n\nAssistant:two</s>Human:third\n\nAssistant:"
    assert sync["history_and_prompt"]["output"]["text"] == rendered
