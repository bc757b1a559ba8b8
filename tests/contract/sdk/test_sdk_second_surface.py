"""`dashscope.Client` of 2.0.2. Numbers are items of docs/protocol.md's checklist."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from questions import PROMPT
from sdk_release import Observations

pytestmark = pytest.mark.client("dashscope 2.0.2 Client")

TOKENS = len(PROMPT.encode())


@pytest.fixture
def client(observe: Callable[[str, str], Observations]) -> Observations:
    """The 2.0 surface against echo."""
    return observe("2.0.2", "surface_2")


@pytest.mark.parametrize("way", ["wrong_key", "wrong_key_streamed"])
def test_14_a_wrong_key_is_an_authentication_error(client: Observations, way: str) -> None:
    error = client[way]
    assert error["raised"][0] == "AuthenticationError"
    assert (error["code"], error["status_code"]) == ("InvalidApiKey", 401)
    assert error["request_id"]


def test_36_a_bad_parameter_is_a_bad_request_error(client: Observations) -> None:
    assert client["bad_parameter"]["raised"][0] == "BadRequestError"
    assert client["bad_parameter"]["message"] == "Temperature should be in [0.0, 2.0)"


def test_36_a_client_that_does_not_raise_gets_the_error_as_a_value(client: Observations) -> None:
    error = client["error_as_a_value"]
    assert (error["is_error"], error["status_code"], error["code"]) == (True, 400, "InvalidParameter")


def test_28_an_unknown_model_is_a_not_found_error(client: Observations) -> None:
    assert client["unknown_model"]["raised"][0] == "NotFoundError"


def test_53_a_call_has_text_and_usage(client: Observations) -> None:
    completion = client["call"]
    assert (completion["text"], completion["finish"], completion["roles"]) == (PROMPT, ["stop"], ["assistant"])
    assert completion["usage"] == {"input_tokens": TOKENS, "output_tokens": TOKENS, "total_tokens": 2 * TOKENS}
    assert completion["request_id"]


def test_53_every_argument_can_be_given(client: Observations) -> None:
    completion = client["call_with_everything"]
    assert (completion["finish"], completion["usage"]["output_tokens"]) == (["length"], 8)


def test_53_two_answers_have_the_tokens_of_both(client: Observations) -> None:
    completion = client["two_answers"]
    assert completion["finish"] == ["stop", "stop"]
    assert completion["usage"]["output_tokens"] == 2 * TOKENS


def test_68_a_stream_ends_with_the_message_of_a_call(client: Observations) -> None:
    assert {**client["stream"], "request_id": None} == {**client["call"], "request_id": None}


def test_68_the_texts_of_a_stream_add_up(client: Observations) -> None:
    assert len(client["stream_of_texts"]) > 50
    assert "".join(client["stream_of_texts"]) == PROMPT


def test_68_a_cumulative_stream_grows_to_the_whole_text(client: Observations) -> None:
    said = client["stream_cumulative"]
    assert all(after.startswith(before) for before, after in pairwise(said))
    assert said[-1] == PROMPT


def test_68_the_asynchronous_client_says_the_same(client: Observations) -> None:
    assert [completion["text"] for completion in client["asynchronous"]] == [PROMPT, PROMPT]


def test_65_usage_never_shrinks_and_ends_with_the_calls(client: Observations) -> None:
    usages = client["stream_usages"]
    assert len(usages) > 50
    assert all(before["output_tokens"] <= after["output_tokens"] for before, after in pairwise(usages))
    assert usages[-1] == client["call"]["usage"]


def test_94_openais_protocol_says_the_same_whole_and_streamed(client: Observations) -> None:
    assert client["openai_protocol"] == [PROMPT, PROMPT]


def test_94_openais_protocol_works_with_the_native_base_address(client: Observations) -> None:
    assert client["openai_protocol_with_the_native_base"] == PROMPT


def test_94_a_wrong_key_of_openais_protocol_is_an_authentication_error(client: Observations) -> None:
    error = client["openai_protocol_wrong_key"]
    assert (error["raised"][0], error["status_code"]) == ("AuthenticationError", 401)
