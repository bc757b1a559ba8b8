"""What OpenAI's SDK sees of a real model: answers that parse into classes, probabilities, a failure in a stream."""

from __future__ import annotations

import json
from typing import Any

from openai_release import Observations, OpenAiRelease

from running_server import StartServer


def is_a_person(value: dict[str, Any]) -> bool:
    """The SDK has validated it; this says that it was not empty."""
    return (
        bool(value["name"]) and 0 <= value["age"] <= 120 and value["address"]["country"] in {"France", "Japan", "Peru"}
    )


def test_answers_parse_into_a_class(model: Observations) -> None:
    assert len(model["parsed"]) == 3
    assert all(map(is_a_person, model["parsed"]))
    assert is_a_person(model["parsed_asynchronously"])


def test_a_stream_parses_into_a_class(model: Observations) -> None:
    assert is_a_person(model["parsed_stream"]["parsed"])
    assert {"content.delta", "content.done"} <= set(model["parsed_stream"]["kinds"])


def test_a_json_object_is_one(model: Observations) -> None:
    answer = model["json_object"]
    assert answer["text"].lstrip().startswith("{")
    if answer["finish"] == "stop":
        assert isinstance(json.loads(answer["text"]), dict)


def test_a_schema_that_nothing_satisfies_is_a_bad_request(model: Observations) -> None:
    error = model["impossible_schema"]
    assert error["raised"][0] == "BadRequestError"
    assert "The JSON schema of response_format cannot be followed" in error["text"]


def test_a_question_is_answered(model: Observations) -> None:
    completion = model["chat"]
    assert "Paris" in completion["choices"][0]["message"]["content"]
    assert 0 < completion["usage"]["completion_tokens"] <= 24
    assert model["stream"]["text"]
    assert model["stream"]["chunks"] > 3


def test_probabilities_belong_to_the_text(model: Observations) -> None:
    told = model["logprobs"]
    assert told["text"] == told["tokens"] == told["bytes"]
    assert all(0 < probability <= 1 for probability in told["probabilities"])
    assert model["streamed_logprobs"]["tokens"] == model["streamed_logprobs"]["text"]


def test_a_stand_in_is_named_in_a_header(model: Observations) -> None:
    want = {"served_by": "smollm2-135m-instruct", "model": "belle-llama-13b-2m-v1"}
    assert model["by_belles_name"] == want


def test_a_failure_in_a_stream_is_raised(openai_release: OpenAiRelease, start_server: StartServer) -> None:
    server = start_server()
    (engine,) = server.worker_pids()
    seen = openai_release.observe("engine_death", server, str(engine))["stream"]
    assert len(seen["texts"]) >= 3
    assert seen["error"]["raised"][0] == "APIError"
    assert (seen["error"]["code"], seen["error"]["type"]) == ("internal_error", "internal_error")
    assert "An internal error has occured" in seen["error"]["text"]
