"""The `response_format` of a request -> the schema that its answer must keep to; the same rules in both protocols."""

from __future__ import annotations

from collections.abc import Mapping

from dashbelle.errors import InvalidParameter
from dashbelle.vocabulary import Prompt, TextPrompt
from dashbelle.wire.json_schema import ANY_OBJECT, bounded_schema

_UNKNOWN = (
    'Unknown format of response_format, its "type" should be "text", "json_object", or "json_schema" with a '
    '"json_schema": {"name": "...", "schema": {...}}.'
)
_NO_JSON = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."


def read_response_format(_name: str, value: object) -> str | None:
    """The schema as JSON, None for plain text. Raises InvalidParameter."""
    kind = _kind(value)
    if kind == "json_object":
        return ANY_OBJECT
    if kind == "json_schema" and isinstance(value, dict):
        wrapper = value.get("json_schema")
        if isinstance(wrapper, dict) and "schema" in wrapper:
            return bounded_schema(wrapper["schema"])
    if kind != "text":
        raise InvalidParameter(_UNKNOWN)
    return None


def check_json_word(given: object, prompt: Prompt) -> None:
    """Who asks for any JSON object must tell the model so: without the word it may write blanks for ever.

    `given`: the parameters as they came. Raises InvalidParameter.
    """
    if not isinstance(given, Mapping) or _kind(given.get("response_format")) != "json_object":
        return
    texts = [prompt.text] if isinstance(prompt, TextPrompt) else [message.content for message in prompt.messages]
    if not any("json" in text.lower() for text in texts):
        raise InvalidParameter(_NO_JSON)


def _kind(value: object) -> object:
    return value.get("type") if isinstance(value, dict) else None
