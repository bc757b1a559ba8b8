"""What the schemas that pass the wire let an engine write: random walks through their grammars, without any weights.

Each step takes one of the allowed tokens at random, so that whatever a grammar lets through is met sooner or later.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys
import uuid
from collections.abc import Callable
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

import pytest

from dashbelle.errors import SchemaRefused
from dashbelle.wire.json_schema import bounded_schema

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # importing openvino would report home
np = pytest.importorskip("numpy")
openvino = pytest.importorskip("openvino")
genai = pytest.importorskip("openvino_genai")
if TYPE_CHECKING:
    from dashbelle.engine.openvino_grammar import Grammars

END = 0
VOCABULARY = [b"", *(bytes((byte,)) for byte in range(256)), b"true", b"null", b'":', b'"}', b"]}", "好".encode()]
WALKS, STEPS = 40, 300

Check = Callable[[Any], object]
BOOL: dict[str, Any] = {"type": "boolean"}
NULL: dict[str, Any] = {"type": "null"}
ODD_VALUES = ['a"b', "\\", "\n", "é/", 1.5, {"x": [None]}]


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    from dashbelle.engine.openvino_grammar import Grammars  # noqa: PLC0415 - openvino may be absent

    return Grammars(VOCABULARY)


def walk(grammars: Grammars, schema: str, seed: int) -> str | None:
    """One answer, or None if it has no end. As in the text of any answer, bytes that are no character are lost."""
    config = genai.GenerationConfig()
    config.max_new_tokens = STEPS
    config.set_eos_token_id(END)
    config.do_sample = True
    config.temperature = 1.0
    config.rng_seed = seed
    config.structured_output_config = grammars.config(schema)
    result = grammars._trial.generate(openvino.Tensor(np.array([[1]], dtype=np.int64)), config)
    ids = result.tokens[0]
    return b"".join(VOCABULARY[token_id] for token_id in ids).decode(errors="ignore") if len(ids) < STEPS else None


def all_booleans(value: dict[str, Any]) -> bool:
    return all(type(entry) is bool for entry in value.values())


def an_object(**properties: object) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("schema", "check"),
    [
        ({"type": "integer"}, lambda v: type(v) is int),
        ({"type": "integer", "minimum": 0}, lambda v: type(v) is int and v >= 0),
        ({"type": "integer", "exclusiveMinimum": 0}, lambda v: type(v) is int and v >= 1),
        ({"type": "integer", "minimum": -37, "maximum": 812}, lambda v: type(v) is int and -37 <= v <= 812),
        ({"type": "number"}, lambda v: type(v) in {int, float}),
        ({"type": "string"}, lambda v: isinstance(v, str) and v.encode()),
        ({"type": "string", "minLength": 2, "maxLength": 3}, lambda v: 2 <= len(v) <= 3),
        ({"type": "string", "minLength": 4}, lambda v: len(v) >= 4),
        ({"type": "string", "format": "date"}, date.fromisoformat),
        ({"type": "string", "format": "time"}, lambda v: time.fromisoformat(v.replace("Z", "+00:00"))),
        ({"type": "string", "format": "date-time"}, lambda v: datetime.fromisoformat(v.replace("Z", "+00:00"))),
        ({"type": "string", "format": "uuid"}, uuid.UUID),
        ({"type": "string", "format": "ipv4"}, ipaddress.IPv4Address),
        ({"type": "string", "format": "email"}, lambda v: re.fullmatch(r'[^@\s"\\]+@[^@\s"\\]+\.[^@\s"\\]+', v)),
        ({"type": ["boolean", "null"]}, lambda v: v is None or type(v) is bool),
        ({"enum": ODD_VALUES}, lambda v: v in ODD_VALUES),
        ({"type": "array", "items": BOOL, "minItems": 2, "maxItems": 4}, lambda v: 2 <= len(v) <= 4),
        ({"type": "array", "items": NULL, "minItems": 3, "maxItems": 3}, lambda v: v == [None] * 3),
        ({"type": "array", "prefixItems": [BOOL, NULL], "minItems": 2}, lambda v: v in [[True, None], [False, None]]),
        ({"type": "object"}, lambda v: isinstance(v, dict)),
        ({"type": "object", "additionalProperties": False}, lambda v: v == {}),
        ({"type": "object", "additionalProperties": BOOL}, all_booleans),
        (an_object(a=NULL, b=BOOL), lambda v: set(v) == {"a", "b"} and type(v["b"]) is bool),
        ({**an_object(a=NULL, b=BOOL), "required": ["b"]}, lambda v: {"b"} <= set(v) <= {"a", "b"}),
        ({**an_object(a=NULL), "additionalProperties": BOOL}, lambda v: v == {"a": None}),
        (an_object(**{"名字😀": NULL, 'a"\\b\n\t': NULL, "[]{2}": NULL}), lambda v: len(v) == 3),
        (an_object(next={"anyOf": [NULL, {"$ref": "#"}]}), lambda v: set(v) == {"next"}),
        ({"$defs": {"A": an_object(a=BOOL)}, "anyOf": [{"$ref": "#/$defs/A"}, NULL]}, lambda v: v is None or "a" in v),
        ({}, lambda _: True),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)  # fmt: skip
def test_whatever_is_written_under_a_schema_is_valid(grammars: Grammars, schema: dict[str, Any], check: Check) -> None:
    text = bounded_schema(schema)
    answers = [answer for seed in range(WALKS) if (answer := walk(grammars, text, seed)) is not None]
    assert len(answers) >= WALKS // 8
    for answer in answers:
        value = json.loads(answer)
        assert check(value) not in {None, False}, answer


@pytest.mark.parametrize(
    "schema",
    ['{"type":"colour"}', '{"const":1}', '{"enum":[]}',
     '{"type":"array","items":{},"minItems":3,"maxItems":2}',
     '{"type":"array","prefixItems":[{"type":"null"}],"items":false,"minItems":4}'],
)  # fmt: skip
def test_a_schema_that_the_library_refuses_is_refused_before_any_step(grammars: Grammars, schema: str) -> None:
    with pytest.raises(SchemaRefused) as caught:
        grammars.config(schema)
    assert caught.value.message == SchemaRefused.default_message
    assert caught.value.__cause__ is None


def test_compiled_grammars_do_not_pile_up(grammars: Grammars) -> None:
    for number in range(600):
        grammars.config(json.dumps({"enum": [number]}))
    assert len(grammars._known) <= 256
    assert walk(grammars, '{"enum": [7]}', 1) == "7"


def test_without_a_vocabulary_every_schema_is_refused() -> None:
    from dashbelle.engine.openvino_grammar import Grammars  # noqa: PLC0415 - openvino may be absent

    with pytest.raises(SchemaRefused):
        Grammars([]).config("{}")


def test_tokens_without_text_are_no_part_of_a_json_text() -> None:
    from dashbelle.engine.openvino_grammar import Grammars  # noqa: PLC0415 - openvino may be absent

    answers = {walk(Grammars(VOCABULARY), '{"enum":["a"]}', seed) for seed in range(10)}
    assert answers == {'"a"'}
