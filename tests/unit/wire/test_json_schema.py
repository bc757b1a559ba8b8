"""Which schemas answers are held to, and the refusals of those that a grammar cannot keep or compile in time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import InvalidParameter
from dashbelle.wire.json_schema import ANY_OBJECT, MAX_BYTES, MAX_DEPTH, bounded_schema
from dashbelle.wire.schema_values import KEYWORDS, MAX_COUNT, MAX_INTEGERS, TYPES

Schema = dict[str, Any]


def bounded(schema: object) -> Schema:
    value: Schema = json.loads(bounded_schema(schema))
    return value


def refusal(schema: object) -> str:
    with pytest.raises(InvalidParameter) as caught:
        bounded_schema(schema)
    assert caught.value.message.startswith("Invalid schema of response_format: #")
    return caught.value.message.removeprefix("Invalid schema of response_format: ")


def nested(levels: int) -> Schema:
    schema: Schema = {"type": "null"}
    for _ in range(levels - 1):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "want"),
    [
        ({}, {}),
        ({"title": "A", "description": "b", "default": 1, "examples": [], "$schema": "x"}, {}),
        ({"type": "null"}, {"type": "null"}),
        ({"type": "number"}, {"type": "number"}),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"type": "object"}, json.loads(ANY_OBJECT)),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": "array", "minItems": 1, "maxItems": 2}, {"type": "array", "items": {}, "minItems": 1, "maxItems": 2}),
        (
            {"type": "array", "prefixItems": [{"type": "null"}]},
            {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
        ),
        ({"const": None}, {"enum": [None]}),
        ({"enum": ["a", 1], "type": ["string", "integer"]}, {"enum": ["a", 1]}),
        ({"anyOf": [{"type": "null"}, True]}, {"anyOf": [{"type": "null"}, {}]}),
        ({"oneOf": [{"type": "null"}]}, {"type": "null"}),
        ({"allOf": [{"type": "null"}], "title": "A"}, {"type": "null"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "minLength": 1, "maxLength": 9}, {"type": "string", "minLength": 1, "maxLength": 9}),
    ],
)
def test_what_is_kept_to_passes(schema: Schema, want: Schema) -> None:
    assert bounded(schema) == want


def test_properties_keep_their_order_and_close_the_object() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "null"}, "a": {"type": "boolean"}}, "required": ["a"]}
    text = bounded_schema(schema)
    assert text == (
        '{"type":"object","properties":{"b":{"type":"null"},"a":{"type":"boolean"}},"required":["a"],'
        '"additionalProperties":false}'
    )


def test_beside_properties_there_are_no_others() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": {"type": "boolean"}}
    assert bounded(schema)["additionalProperties"] is False
    assert "keyword 'not'" in refusal({**schema, "additionalProperties": {"not": {}}})


@pytest.mark.parametrize(
    ("bounds", "want"),
    [
        ({}, {"type": "integer"}),
        ({"minimum": 0}, {"type": "integer", "minimum": 0}),
        ({"exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"minimum": -1, "maximum": 1.0}, {"enum": [-1, 0, 1]}),
        ({"exclusiveMinimum": 4, "exclusiveMaximum": 7}, {"enum": [5, 6]}),
        ({"minimum": 0, "exclusiveMinimum": 2, "maximum": 3}, {"enum": [3]}),
    ],
)
def test_bounds_of_integers_become_what_engines_get_right(bounds: Schema, want: Schema) -> None:
    assert bounded({"type": "integer", **bounds}) == want


def test_references_lead_to_definitions_of_the_schema_itself() -> None:
    schema = {
        "definitions": {"Leaf": {"type": "null"}},
        "$defs": {"Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        "anyOf": [{"$ref": "#/definitions/Leaf"}, {"$ref": "#/$defs/Tree"}],
    }
    named = {"Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}, "Leaf": {"type": "null"}}
    assert bounded(schema) == {"$defs": named, "anyOf": [{"$ref": "#/$defs/Leaf"}, {"$ref": "#/$defs/Tree"}]}


def test_a_schema_may_contain_itself() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    assert bounded(schema)["properties"] == {"next": {"$ref": "#"}}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (None, "must be an object"),
        (False, "must be an object"),
        ({"not": {}}, "keyword 'not'"),
        ({"type": "string", "pattern": "a"}, "keyword 'pattern'"),
        ({"type": "number", "minimum": 1}, "keyword 'minimum'"),
        ({"type": "integer", "multipleOf": 2}, "keyword 'multipleOf'"),
        ({"type": "array", "uniqueItems": True}, "keyword 'uniqueItems'"),
        ({"type": "object", "patternProperties": {}}, "keyword 'patternProperties'"),
        ({"type": "boolean", "format": "date"}, "keyword 'format'"),
        ({"type": ["string", "null"], "items": {}}, "keyword 'items'"),
        ({"type": "object", "anyOf": [{}]}, "keyword 'type'"),
        ({"anyOf": [{}], "oneOf": [{}]}, "keyword 'oneOf'"),
        ({"$ref": "#", "type": "null"}, "keyword 'type'"),
        ({"x" * 100: 1}, "keyword '" + "x" * 64 + "'"),
        ({"properties": {}}, 'must have a "type" out of'),
        ({"type": "any"}, 'must have a "type" out of'),
        ({"type": []}, 'must have a "type" out of'),
        ({"type": ["string", 1]}, 'must have a "type" out of'),
        ({"type": "object", "properties": []}, "must have an object"),
        ({"type": "object", "required": ["a"]}, "requires what is not among"),
        ({"type": "object", "properties": {"a": {}}, "required": [1]}, "requires what is not among"),
        ({"type": "object", "properties": {"a": False}}, "#/properties/a must be an object"),
        ({"type": "array", "prefixItems": {}}, "must have a list"),
        ({"type": "array", "minItems": -1}, f"must have an integer in [0, {MAX_COUNT}]"),
        ({"type": "array", "maxItems": MAX_COUNT + 1}, f"must have an integer in [0, {MAX_COUNT}]"),
        ({"type": "array", "maxItems": True}, f"must have an integer in [0, {MAX_COUNT}]"),
        ({"type": "integer", "minimum": 2}, f"must leave at most {MAX_INTEGERS} integers"),
        ({"type": "integer", "maximum": 2}, f"must leave at most {MAX_INTEGERS} integers"),
        ({"type": "integer", "minimum": 1, "maximum": MAX_INTEGERS + 1}, f"must leave at most {MAX_INTEGERS} integers"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "leaves no integer"),
        ({"type": "integer", "minimum": 0.5}, "must have an integer within"),
        ({"type": "integer", "minimum": True}, "must have an integer within"),
        ({"type": "integer", "minimum": 10**400}, "must have an integer within"),
        ({"type": "string", "format": 1}, 'must have a string as its "format"'),
        ({"type": "string", "format": "date", "maxLength": 9}, 'beside a "format"'),
        ({"type": "string", "minLength": 5, "maxLength": 4}, "leaves no string"),
        ({"type": "string", "maxLength": -1}, f"must have an integer in [0, {MAX_COUNT}]"),
        ({"enum": []}, "must have a list that is not empty"),
        ({"enum": "a"}, "must have a list that is not empty"),
        ({"enum": ["a"], "const": "a"}, "must have a list that is not empty"),
        ({"enum": ["a"], "type": "integer"}, 'has a value that is not of its "type"'),
        ({"enum": [True], "type": "integer"}, 'has a value that is not of its "type"'),
        ({"enum": [2**60]}, "has a number beyond"),
        ({"anyOf": []}, "must have a list that is not empty"),
        ({"allOf": [{}, {}]}, 'has an "allOf" of more than one schema'),
        ({"$ref": "http://example.com/schema.json"}, 'has a "$ref" to something else'),
        ({"$ref": "file:///etc/passwd"}, 'has a "$ref" to something else'),
        ({"$ref": "#/properties/a"}, 'has a "$ref" to something else'),
        ({"$ref": "#/$defs/A"}, 'has a "$ref" to something else'),
        ({"$ref": 1}, 'has a "$ref" to something else'),
        ({"$defs": []}, 'must have "$defs" with names'),
        ({"$defs": {"a/b": {}}}, 'must have "$defs" with names'),
        ({"$defs": {"A": {"type": 1}}}, '#/$defs/A must have a "type"'),
        ({"$ref": "#"}, "# refers to itself"),
        ({"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"anyOf": [{"$ref": "#/$defs/A"}]}}}, "refers to itself"),
        (nested(MAX_DEPTH + 1), f"is nested deeper than {MAX_DEPTH} levels"),
        ({"enum": ["x" * MAX_BYTES]}, f"has more than {MAX_BYTES} bytes"),
        ({"type": "object", "properties": {f"a{number}": {} for number in range(300)}}, "makes the schema too complex"),
        ({"type": "array", "prefixItems": [{"type": "null"}] * 1400}, "makes the schema too complex"),
        ({"anyOf": [{"type": "array", "maxItems": 900}] * 5}, "makes the schema too complex"),
    ],
)
def test_what_cannot_be_kept_to_is_refused_by_name(schema: object, why: str) -> None:
    assert why in refusal(schema)


def test_the_deepest_schema_passes() -> None:
    bounded_schema(nested(MAX_DEPTH))


def test_many_roads_to_one_definition_are_walked_once() -> None:
    step = {f"A{number}": {"anyOf": [{"$ref": f"#/$defs/A{number + 1}"}] * 2} for number in range(60)}
    bounded_schema({"$defs": {**step, "A60": {"type": "null"}}, "$ref": "#/$defs/A0"})


KEYS = sorted(
    {key for keys in KEYWORDS.values() for key in keys} | {"$ref", "$defs", "enum", "const", "anyOf", "oneOf"}
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([*TYPES, "#", "#/$defs/A"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "A", *KEYS]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_is_a_schema_or_a_refusal(schema: object) -> None:
    try:
        text = bounded_schema(schema)
    except InvalidParameter:
        return
    assert bounded_schema(json.loads(text))
