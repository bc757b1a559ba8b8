"""A real model under schemas: what it says is valid, and a schema that it cannot follow costs nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from test_engine_contract import Subject, openvino

from dashbelle.errors import SchemaRefused
from dashbelle.wire.json_schema import ANY_OBJECT, bounded_schema

Schema = dict[str, Any]
ASK = "Describe a person as JSON."
AS_SERVED: dict[str, Any] = {"temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.1}
"""The stand-in's own values. Without a penalty so small a model repeats itself within a string until its limit."""
CITY: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "country": {"enum": ["France", "Japan", "Peru"]},
        "people": {"type": "integer", "minimum": 0},
        "founded": {"type": ["integer", "null"]},
    },
    "required": ["name", "country", "people", "founded"],
    "additionalProperties": False,
}


def is_a_city(value: Schema) -> bool:
    return (
        list(value) == ["name", "country", "people", "founded"]
        and isinstance(value["name"], str)
        and value["country"] in {"France", "Japan", "Peru"}
        and type(value["people"]) is int
        and value["people"] >= 0
        and type(value["founded"]) in {int, type(None)}
    )


CASES: list[tuple[Schema, Callable[[Any], object]]] = [
    (CITY, is_a_city),
    (json.loads(ANY_OBJECT), lambda value: isinstance(value, dict)),
    (
        {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 2, "maxItems": 5},
        lambda value: 2 <= len(value) <= 5 and set(value) <= {"red", "green", "blue"},
    ),
    (
        {
            "$defs": {"Score": {"type": "integer", "minimum": 1, "maximum": 5}},
            "type": "object",
            "properties": {"score": {"$ref": "#/$defs/Score"}, "day": {"type": "string", "format": "date"}},
            "required": ["score", "day"],
        },
        lambda value: 1 <= value["score"] <= 5 and len(value["day"]) == 10,
    ),
    ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, lambda value: value in (True, False, None)),
]


@pytest.fixture
async def model(engine_cache: Path) -> AsyncGenerator[Subject, None]:
    subject = await openvino(engine_cache)
    yield subject
    await subject.engine.close()


async def test_answers_under_a_schema_are_valid_whatever_the_seed(model: Subject) -> None:
    for schema, is_valid in CASES:
        text = bounded_schema(schema)
        answers = await asyncio.gather(
            *(model.run(ASK, **AS_SERVED, json_schema=text, seed=seed, max_tokens=600) for seed in (1, 2, 3))
        )
        for answer in answers:
            assert answer.finish == "stop", answer.text
            assert is_valid(json.loads(answer.text)), answer.text


async def test_an_answer_that_is_cut_by_its_limit_is_a_beginning(model: Subject) -> None:
    answer = await model.run(ASK, json_schema=bounded_schema(CITY), max_tokens=3)
    assert (answer.tokens, answer.finish) == (3, "length")
    assert answer.text.lstrip().startswith("{")


async def test_a_schema_may_go_with_logprobs_and_penalties(model: Subject) -> None:
    schema = bounded_schema(CITY)
    answer = await model.run(ASK, json_schema=schema, logprobs=True, repetition_penalty=1.1, max_tokens=400)
    assert is_a_city(json.loads(answer.text))
    told = b"".join(token.piece for delta in answer.deltas for token in delta.logprobs)
    assert told.decode() == answer.text


async def test_a_refused_schema_costs_no_other_call(model: Subject) -> None:
    other = asyncio.create_task(model.run(max_tokens=60))
    for schema in ('{"type":"colour"}', '{"enum":[]}'):
        with pytest.raises(SchemaRefused):
            await model.run(json_schema=schema)
    assert (await other).tokens > 0
    assert model.engine.restarts == 0
    assert (await model.run(max_tokens=3)).tokens == 3
