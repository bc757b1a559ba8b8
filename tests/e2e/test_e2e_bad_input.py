"""Bodies that no client should send: each is refused in the protocol's form, costs nothing and harms nobody."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx2
import pytest
from native_client import BELLE, NativeClient

from running_server import RunningServer

GOOD = {"model": BELLE, "input": {"prompt": "Hello!"}, "parameters": {"max_tokens": 1}}
MALFORMED = "Required body invalid, please check the request body format."


class Bad(NamedTuple):
    """A body, and how it must be refused."""

    body: object
    message: str
    code: str = "InvalidParameter"
    status: int = 400


def good_but(**changes: object) -> dict[str, object]:
    """A good body with other parts."""
    return {**GOOD, **changes}


def parameter(name: str, value: object) -> dict[str, object]:
    """A good body with this parameter."""
    return good_but(parameters={name: value})


MATRIX = {
    "no body": Bad(b"", MALFORMED),
    "no JSON": Bad(b"prompt=hello", MALFORMED),
    "JSON that breaks off": Bad(json.dumps(GOOD).encode()[:-1], MALFORMED),
    "two values": Bad(json.dumps(GOOD).encode() + b"{}", MALFORMED),
    "no UTF-8": Bad(b'{"model": "\xff"}', MALFORMED),
    "NaN": Bad(b'{"model": NaN}', MALFORMED),
    "a list": Bad([], MALFORMED),
    "a string": Bad("x", MALFORMED),
    "null": Bad(b"null", MALFORMED),
    "a lone surrogate": Bad(json.dumps(good_but(input={"prompt": "\ud800"})).encode(), MALFORMED),
    "a lone surrogate as a key": Bad(b'{"\\udfff": 1}', MALFORMED),
    "65 levels": Bad(b'{"a":' * 65 + b"1" + b"}" * 65, MALFORMED),
    "10 MB of [": Bad(b"[" * 10_000_000, MALFORMED),
    "20 MB": Bad(b" " * 20_000_000, "Payload Too Large", "BadRequest.TooLarge", 413),
    "no model": Bad(
        {"input": {"prompt": "Hello!"}}, 'Required parameter "model" missing from request.', "BadRequest.EmptyModel"
    ),
    "model a number": Bad(good_but(model=7), "'model' must be String"),
    "no input": Bad({"model": BELLE}, "Required input parameter missing from request.", "BadRequest.EmptyInput"),
    "input a list": Bad(
        good_but(input=["Hello!"]), "The input parameter requires json format.", "BadRequest.IllegalInput"
    ),
    "input empty": Bad(good_but(input={}), 'Either "prompt" or "messages" must exist and cannot both be none'),
    "prompt empty": Bad(good_but(input={"prompt": ""}), 'Length of "prompt" must be greater than 0'),
    "prompt a list": Bad(good_but(input={"prompt": ["Hello!"]}), "input content must be a string."),
    "messages empty": Bad(
        good_but(input={"messages": []}), "Role must be user or assistant and Content length must be greater than 0"
    ),
    "parameters a list": Bad(good_but(parameters=[]), 'The "parameters" must be a JSON object.'),
    "temperature hot": Bad(parameter("temperature", "hot"), "'temperature' must be Float"),
    "temperature 2": Bad(parameter("temperature", 2.0), "Temperature should be in [0.0, 2.0)"),
    "top_p 0": Bad(parameter("top_p", 0), "Range of top_p should be (0.0, 1.0]"),
    "top_k -1": Bad(parameter("top_k", -1), "Parameter top_k be greater than or equal to 0"),
    "seed -1": Bad(parameter("seed", -1), "Range of seed should be [0, 9223372036854775807]"),
    "seed of 5000 digits": Bad(
        json.dumps(parameter("seed", 0)).replace('"seed": 0', '"seed": ' + "9" * 5000).encode(), ""
    ),
    "max_tokens 0": Bad(parameter("max_tokens", 0), "Range of max_tokens should be [1, 2147483647]"),
    "max_tokens over the context": Bad(parameter("max_tokens", 9_000), "Range of max_tokens should be [1, 8191]"),
    "n 5": Bad(parameter("n", 5), "Range of n should be [1, 4]"),
    "stop mixed": Bad(
        parameter("stop", ["a", 1]),
        'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", and all elements '
        "within the list must be of the same type.",
    ),
    "result_format xml": Bad(
        parameter("result_format", "xml"), 'Parameter result_format should be "text" or "message".'
    ),
    "an unknown model": Bad(
        good_but(model="belle-7b"),
        "The model does not exist or you do not have access to it.",
        "ModelNotFound",
        404,
    ),
    "a prompt over the context": Bad(
        good_but(input={"prompt": "word " * 9_000}),
        "Range of input length should be [1, 8191], but the prompt has 9",
    ),
}


class Answers(NamedTuple):
    """What a server said to each, what it said to a good call behind each, and which calls it wrote down."""

    bad: dict[str, httpx2.Response]
    good: dict[str, int]
    metered: set[str]


@pytest.fixture(scope="module")
def answers(belle_server: RunningServer) -> Answers:
    """The whole matrix once."""
    client = NativeClient(belle_server)
    bad: dict[str, httpx2.Response] = {}
    good: dict[str, int] = {}
    for name, (body, *_) in MATRIX.items():
        bad[name] = client.post(body)
        good[name] = client.post(GOOD).status_code
    return Answers(bad, good, {row["request_id"] for row in belle_server.usage()})


@pytest.mark.parametrize("name", MATRIX)
def test_a_bad_body_is_refused_in_the_protocols_form(answers: Answers, name: str) -> None:
    response, expected = answers.bad[name], MATRIX[name]
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["code"]) == (expected.status, expected.code)
    assert told["message"].startswith(expected.message)
    assert response.headers["content-type"] == "application/json"
    assert set(told) == {"code", "message", "request_id"}
    assert response.headers["x-request-id"] == told["request_id"]


@pytest.mark.parametrize("name", MATRIX)
def test_a_good_call_behind_it_is_answered(answers: Answers, name: str) -> None:
    assert answers.good[name] == 200


@pytest.mark.parametrize("name", MATRIX)
def test_it_leaves_no_row_in_the_ledger(answers: Answers, name: str) -> None:
    assert answers.metered
    assert answers.bad[name].json()["request_id"] not in answers.metered


def test_a_refused_body_cannot_make_the_answer_a_stream(belle_server: RunningServer) -> None:
    response = NativeClient(belle_server).post(b"[", {"X-DashScope-SSE": "enable", "Accept": "text/event-stream"})
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
