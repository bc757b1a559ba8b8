"""The grammar's text: what it says of each kind of node, and that it does not grow faster than the schema."""

from __future__ import annotations

import json

import pytest

from dashbelle.engine.schema_grammar import grammar_of
from dashbelle.errors import SchemaRefused


def rules(schema: object) -> dict[str, str]:
    lines = grammar_of(json.dumps(schema)).splitlines()
    return dict(line.split(" ::= ", 1) for line in lines if line)


@pytest.mark.parametrize(
    ("schema", "root"),
    [
        ({}, "value"),
        ({"type": "null"}, "null"),
        ({"type": "integer"}, "integer"),
        ({"type": "integer", "minimum": 1}, "positive"),
        ({"type": "string"}, "string"),
        ({"type": "string", "format": "unheard-of"}, "string"),
        ({"type": "string", "format": "date-time"}, r'"\"" date "T" time "\""'),
        ({"type": "string", "maxLength": 9}, r'"\"" char{0,9} "\""'),
        ({"enum": ['a"b\n', None]}, r'"\"a\\\"b\\n\"" | "null"'),
        ({"type": "array", "items": {}, "minItems": 2, "maxItems": 5}, '"[" ws part1 ws "]"'),
        ({"type": "array", "items": {}, "maxItems": 0}, '"[" ws  ws "]"'),
    ],
)
def test_each_kind_of_node_has_its_rule(schema: object, root: str) -> None:
    assert rules(schema)["root"] == root


def test_equal_nodes_share_a_rule() -> None:
    shared = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "properties": dict.fromkeys("abcdef", shared), "additionalProperties": False}
    assert sum(rule.startswith("node") for rule in rules(schema)) == 2


def test_a_grammar_grows_like_its_schema() -> None:
    def size(properties: int) -> int:
        named = {f"p{number:04}": {"type": "null"} for number in range(properties)}
        return len(grammar_of(json.dumps({"type": "object", "properties": named, "additionalProperties": False})))

    assert size(400) - size(200) < 2.2 * (size(200) - size(100))


def test_definitions_may_lead_to_each_other_and_to_the_root() -> None:
    schema = {
        "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "array", "items": {"$ref": "#"}}},
        "$ref": "#/$defs/A",
    }
    known = rules(schema)
    assert (known["root"], known["def0"], known["node0"]) == ("def0", "def1", "root")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "colour"},
        {"const": 1},
        {"type": "object"},
        {"$ref": "#/$defs/A"},
        {"type": "array", "items": {}, "minItems": 2, "maxItems": 1},
        {"type": "array", "prefixItems": [{}], "items": False, "minItems": 2},
    ],
)
def test_what_no_answer_satisfies_or_nobody_knows_is_refused(schema: object) -> None:
    with pytest.raises(SchemaRefused):
        grammar_of(json.dumps(schema))
