"""What `response_format` may say, and the word that a JSON object must be asked for with."""

from __future__ import annotations

import pytest

from dashbelle.errors import InvalidParameter
from dashbelle.vocabulary import ChatPrompt, Message, TextPrompt
from dashbelle.wire.json_schema import ANY_OBJECT
from dashbelle.wire.response_format import check_json_word, read_response_format

HELLO = TextPrompt("hello")


def read(value: object) -> str | None:
    return read_response_format("response_format", value)


def test_text_asks_for_nothing() -> None:
    assert read({"type": "text"}) is None


def test_an_object_is_any_object() -> None:
    assert read({"type": "json_object"}) == ANY_OBJECT


def test_a_schema_is_read_out_of_its_wrapper() -> None:
    wrapper = {"name": "flag", "strict": True, "schema": {"type": "boolean", "title": "Flag"}}
    assert read({"type": "json_schema", "json_schema": wrapper}) == '{"type":"boolean"}'


@pytest.mark.parametrize(
    "value",
    ["json", [], {}, {"type": None}, {"type": []}, {"type": "xml"}, {"type": "json_schema"},
     {"type": "json_schema", "json_schema": []}, {"type": "json_schema", "json_schema": {"name": "a"}}],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_known(value: object) -> None:
    with pytest.raises(InvalidParameter, match='its "type" should be "text", "json_object", or "json_schema"'):
        read(value)


@pytest.mark.parametrize("text", ["Answer in JSON.", "json", "a Json object"])
def test_the_word_may_stand_anywhere_in_any_case(text: str) -> None:
    asked = {"response_format": {"type": "json_object"}}
    check_json_word(asked, TextPrompt(text))
    check_json_word(asked, ChatPrompt((Message("system", text), Message("user", "hello"))))


def test_without_the_word_an_object_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="must contain the word 'json'"):
        check_json_word({"response_format": {"type": "json_object"}}, HELLO)


@pytest.mark.parametrize("given", [None, {}, {"response_format": {"type": "json_schema"}}, {"response_format": None}])
def test_nothing_else_needs_the_word(given: object) -> None:
    check_json_word(given, HELLO)
