"""Bodies and parameters over raw HTTP. Numbers are items of docs/conformance.md."""

from __future__ import annotations

import json

import pytest
from raw_calls import STREAM, TEXT, Refusal, answer, ask, body, frames, post, refusal

from running_server import RunningServer

MALFORMED = "Required body invalid, please check the request body format."
NO_TURN = "Role must be user or assistant and Content length must be greater than 0"


def invalid(message: str) -> Refusal:
    return Refusal(400, "InvalidParameter", message)


@pytest.mark.parametrize("raw", [b"", b"prompt=hello", json.dumps(body()).encode()[:-1], b'{"model": "\xff"}'])
def test_20_a_body_that_is_no_json_is_refused(echo_server: RunningServer, raw: bytes) -> None:
    assert refusal(post(echo_server, raw)) == invalid(MALFORMED)


@pytest.mark.parametrize("content", [[], "x", 5, None])
def test_21_json_that_is_no_object_is_refused(echo_server: RunningServer, content: object) -> None:
    assert refusal(post(echo_server, content)) == invalid(MALFORMED)


@pytest.mark.parametrize("model", [..., None, "", 7])
def test_22_a_model_is_required_and_a_string(echo_server: RunningServer, model: object) -> None:
    expected = "InvalidParameter" if model == 7 else "BadRequest.EmptyModel"
    assert refusal(post(echo_server, body(model=model)))[:2] == (400, expected)


def test_23_an_input_is_required(echo_server: RunningServer) -> None:
    assert refusal(post(echo_server, body(input=...)))[:2] == (400, "BadRequest.EmptyInput")


@pytest.mark.parametrize("given", [["hello"], "hello", 5])
def test_24_an_input_is_an_object(echo_server: RunningServer, given: object) -> None:
    assert refusal(post(echo_server, body(input=given)))[:2] == (400, "BadRequest.IllegalInput")


def test_25_an_input_has_a_prompt_or_messages(echo_server: RunningServer) -> None:
    expected = invalid('Either "prompt" or "messages" must exist and cannot both be none')
    assert refusal(post(echo_server, body(input={}))) == expected


@pytest.mark.parametrize(
    "item_and_parameters", [pytest.param(..., marks=pytest.mark.item(26)), pytest.param(None)], ids=["absent", "null"]
)
@pytest.mark.item(27)
def test_parameters_may_be_absent_or_null(echo_server: RunningServer, item_and_parameters: object) -> None:
    reply = post(echo_server, body(parameters=item_and_parameters))
    assert (reply.status_code, reply.json()["output"]["text"]) == (200, TEXT)


def test_27_parameters_are_no_list(echo_server: RunningServer) -> None:
    assert refusal(post(echo_server, body(parameters=[]))) == invalid('The "parameters" must be a JSON object.')


def test_28_an_unknown_model_is_404(echo_server: RunningServer) -> None:
    assert refusal(post(echo_server, body(model="belle-7b")))[:2] == (404, "ModelNotFound")


def test_29_unknown_parameters_are_ignored(echo_server: RunningServer) -> None:
    assert answer(echo_server, no_such_parameter={"a": [1]}, another=None)["output"]["text"] == TEXT


@pytest.mark.parametrize("prompt", ["", ["hello"], 5])
def test_30_a_prompt_is_a_string_that_is_not_empty(echo_server: RunningServer, prompt: object) -> None:
    assert refusal(ask(echo_server, prompt))[:2] == (400, "InvalidParameter")


def test_31_no_messages_are_refused_even_beside_a_prompt(echo_server: RunningServer) -> None:
    assert refusal(post(echo_server, body(input={"prompt": "hello", "messages": []}))) == invalid(NO_TURN)


@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "user", "content": ""}, {"role": "x", "content": "a"}])
def test_32_a_message_has_a_role_and_content(echo_server: RunningServer, message: dict[str, str]) -> None:
    assert refusal(post(echo_server, body(input={"messages": [message]})))[:2] == (400, "InvalidParameter")


def test_33_a_prompt_over_the_context_is_refused_with_the_range(echo_server: RunningServer) -> None:
    told = refusal(ask(echo_server, "x" * 70_000))
    assert told[:2] == (400, "InvalidParameter")
    assert told.message.startswith("Range of input length should be [1, 65535]")


@pytest.mark.parametrize("prompt", ["😀🌊 é", "a\u0000b", "a\r\nb\r\n", '"\\\u2028</s>'])
@pytest.mark.parametrize("escaped", [True, False])
def test_34_odd_characters_are_text(echo_server: RunningServer, prompt: str, *, escaped: bool) -> None:
    raw = json.dumps(body(prompt), ensure_ascii=escaped).encode()
    assert post(echo_server, raw).json()["output"]["text"] == prompt


@pytest.mark.parametrize("raw", [b"[" * 10_000_000, b'{"a":' * 2_000_000])
def test_35_ten_megabytes_of_nesting_are_refused(echo_server: RunningServer, raw: bytes) -> None:
    assert refusal(post(echo_server, raw)) == invalid(MALFORMED)
    assert ask(echo_server).status_code == 200


GOOD = [
    *((36, "temperature", value) for value in (0, 1, 1.99)),
    *((37, "top_p", value) for value in (1, 0.01)),
    *((38, "top_k", value) for value in (0, 1, 50, 1000, None)),
    *((39, "seed", value) for value in (0, 2**31 - 1, 2**63 - 1)),
    *((44, "repetition_penalty", value) for value in (1.0, 1.1)),
    *((44, "presence_penalty", value) for value in (-2, 2)),
]
TEMPERATURE = "Temperature should be in [0.0, 2.0)"
BAD = [
    *((36, "temperature", value, TEMPERATURE) for value in (-0.1, 2.0)),
    (36, "temperature", "hot", "'temperature' must be Float"),
    *((37, "top_p", value, "Range of top_p should be (0.0, 1.0]") for value in (0, 1.1)),
    (38, "top_k", -1, "Parameter top_k be greater than or equal to 0"),
    (39, "seed", -1, "Range of seed should be [0, 9223372036854775807]"),
    *((41, "max_tokens", value, "Range of max_tokens should be [1, 2147483647]") for value in (0, -1)),
    (41, "max_tokens", 70_000, "Range of max_tokens should be [1, 65535]"),
    (42, "stop", ["a", 1], 'The "stop" parameter must be of type "str", "list[str]"'),
    (44, "repetition_penalty", 0, "Repetition_penalty should be greater than 0.0"),
    *((44, "presence_penalty", value, "Presence_penalty should be in [-2.0, 2.0]") for value in (-2.1, 2.1)),
    *((45, "n", value, "Range of n should be [1, 4]") for value in (0, 5)),
    (46, "result_format", "xml", 'Parameter result_format should be "text" or "message".'),
]


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(name, value, marks=pytest.mark.item(number)) for number, name, value in GOOD],
)
def test_a_value_in_range_is_taken(echo_server: RunningServer, name: str, value: object) -> None:
    assert answer(echo_server, **{name: value})["output"]["text"] == TEXT


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [pytest.param(name, value, why, marks=pytest.mark.item(number)) for number, name, value, why in BAD],
)
def test_a_value_out_of_range_is_refused_with_the_rule(
    echo_server: RunningServer, name: str, value: object, message: str
) -> None:
    told = refusal(ask(echo_server, **{name: value}))
    assert told[:2] == (400, "InvalidParameter")
    assert told.message.startswith(message)


def test_41_max_tokens_is_obeyed_and_says_length(echo_server: RunningServer) -> None:
    told = answer(echo_server, max_tokens=5)
    assert (told["output"], told["usage"]["output_tokens"]) == ({"text": "Human", "finish_reason": "length"}, 5)


@pytest.mark.parametrize("stop", ["世界", ["never", "世界"], [7, ord(",")], [[7], list("世界".encode())]])
def test_42_each_form_of_stop_is_obeyed_and_not_shown(echo_server: RunningServer, stop: object) -> None:
    told = answer(echo_server, stop=stop)["output"]
    text = "Human:你好" if isinstance(stop, list) and stop[0] == 7 else "Human:你好,"
    assert told == {"text": text, "finish_reason": "stop"}


@pytest.mark.parametrize("incremental", [True, False])
def test_43_no_part_of_a_stop_text_leaks_into_a_frame(echo_server: RunningServer, *, incremental: bool) -> None:
    parameters = {"stop": "the lazy dog", "incremental_output": incremental}
    raw = post(echo_server, body("over the lazy cat, the lazy dog", parameters=parameters), STREAM).content
    texts = [frame["output"]["text"] for frame in frames(raw)]
    whole = "".join(texts) if incremental else texts[-1]
    assert whole == "over the lazy cat, "
    assert len(texts) > 5


def test_45_two_choices_have_their_indices(echo_server: RunningServer) -> None:
    told = answer(echo_server, n=2, result_format="message")
    assert [choice["index"] for choice in told["output"]["choices"]] == [0, 1]
