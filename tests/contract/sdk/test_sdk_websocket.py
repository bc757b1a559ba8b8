"""Calls over WebSocket through the 1.x surface. Numbers are items of docs/protocol.md's checklist."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from questions import PROMPT, RENDERED
from sdk_release import Observations

from sdk_environment import VERSIONS

TASK_FAILED = 44
"""What this surface makes of every task-failed."""


@pytest.fixture(params=VERSIONS)
def seen(request: pytest.FixtureRequest, observe: Callable[[str, str], Observations]) -> Observations:
    """What each release saw."""
    return observe(request.param, "websocket")


@pytest.mark.parametrize("case", ["whole", "with_slash"])
def test_81_a_call_is_answered_under_the_id_of_its_task(seen: Observations, case: str) -> None:
    response = seen[case]
    tokens = len(PROMPT.encode())
    assert (response["status_code"], response["code"], response["message"]) == (200, "", "")
    assert response["output"] == {"text": PROMPT, "finish_reason": "stop", "choices": None}
    assert response["usage"] == {"input_tokens": tokens, "output_tokens": tokens, "total_tokens": 2 * tokens}
    assert response["request_id"] == response["sent_id"] != ""


def test_81_messages_are_answered_with_a_message(seen: Observations) -> None:
    (choice,) = seen["whole_message"]["output"]["choices"]
    assert choice["message"] == {"role": "assistant", "content": RENDERED}


def test_81_a_stream_is_cumulative_by_default(seen: Observations) -> None:
    items = seen["streamed"]
    texts = [item["output"]["text"] for item in items]
    assert texts[-1] == PROMPT
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert [item["output"]["finish_reason"] for item in items] == ["null"] * (len(items) - 1) + ["stop"]
    assert {item["request_id"] for item in items} == {items[0]["sent_id"]}


def test_81_the_pieces_of_an_incremental_stream_make_the_whole(seen: Observations) -> None:
    items = seen["streamed_incremental"]
    assert len(items) > 1
    assert "".join(item["output"]["text"] for item in items) == PROMPT


def test_83_a_wrong_key_is_a_response_with_401(seen: Observations) -> None:
    assert seen["wrong_key"]["status_code"] == 401


def test_86_a_task_that_fails_is_a_response_that_says_why(seen: Observations) -> None:
    failed = seen["unknown_model"]
    assert (failed["status_code"], failed["code"]) == (TASK_FAILED, "ModelNotFound")
    assert failed["request_id"] == failed["sent_id"]
    (item,) = seen["bad_parameter_streamed"]
    assert (item["status_code"], item["code"]) == (TASK_FAILED, "InvalidParameter")
    assert item["message"] == "Temperature should be in [0.0, 2.0)"
