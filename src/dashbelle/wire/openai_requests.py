"""The bodies of the compatible protocol -> vocabulary: chat completions and text completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dashbelle.errors import InvalidParameter
from dashbelle.vocabulary import ChatPrompt, Prompt, Sampling, TextPrompt
from dashbelle.wire.bodies import offer_tools, read_messages, read_model
from dashbelle.wire.logprobs import read_top
from dashbelle.wire.parameters import SAMPLING_RULES, Rule, read_boolean, read_rules
from dashbelle.wire.response_format import check_json_word

_NO_TOOLS = "The tool call is not supported."
_ONE_TEXT = '"prompt" must be one string that is not empty; token ids and several prompts are not supported.'


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A checked request, not yet attributed to a caller."""

    model: str
    prompt: Prompt
    sampling: Sampling
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int = 0


def parse_chat(body: object) -> CompletionRequest:
    """Check the body of a chat completion; unknown keys are ignored. Raises InvalidParameter, EmptyModel."""
    given = _object(body)
    model, prompt = read_model(given.get("model")), _chat_prompt(given)
    known = read_rules(CHAT_RULES, given)
    check_json_word(given, prompt)
    if known.pop("uses_tools", False):
        prompt = offer_tools(prompt)
    if known.get("top_logprobs") and not known.get("logprobs"):
        raise InvalidParameter("top_logprobs needs logprobs to be true.")
    return _request(model, prompt, known)


def parse_text(body: object) -> CompletionRequest:
    """Check the body of a text completion; unknown keys are ignored. Raises InvalidParameter, EmptyModel."""
    given = _object(body)
    model, prompt = read_model(given.get("model")), TextPrompt(_text(given.get("prompt")))
    known = read_rules(TEXT_RULES, given)
    check_json_word(given, prompt)
    if known.pop("uses_tools", False):
        raise InvalidParameter(_NO_TOOLS)
    known["logprobs"] = "top_logprobs" in known
    return _request(model, prompt, known)


def read_named_model(body: object) -> str:
    """The model that a body names, whatever else it says. Raises InvalidParameter, EmptyModel."""
    return read_model(_object(body).get("model"))


def _request(model: str, prompt: Prompt, known: dict[str, Any]) -> CompletionRequest:
    outside = {name: known.pop(name) for name in ("stream", "include_usage", "top_logprobs") if name in known}
    return CompletionRequest(model, prompt, Sampling(**known), **outside)


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise InvalidParameter("Required body invalid, please check the request body format.")
    return body


def _chat_prompt(given: dict[str, Any]) -> ChatPrompt:
    messages = given.get("messages")
    if messages is None:
        raise InvalidParameter('Required parameter "messages" missing from request.')
    if isinstance(messages, list):
        messages = [_renamed(message) for message in messages]
    return read_messages(messages)


def _renamed(message: object) -> object:
    """OpenAI's newer name of the system's role."""
    if isinstance(message, dict) and message.get("role") == "developer":
        return {**message, "role": "system"}
    return message


def _text(value: object) -> str:
    text = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(text, str) or not text:
        raise InvalidParameter(_ONE_TEXT)
    return text


def _include_usage(name: str, value: object) -> bool:
    if not isinstance(value, dict):
        raise InvalidParameter(f"'{name}' must be an object")
    asked = value.get("include_usage")
    return False if asked is None else read_boolean("include_usage", asked)


def _functions(_name: str, value: object) -> None:
    """What tools were called before."""
    if value != []:
        raise InvalidParameter(_NO_TOOLS)


def _echo(name: str, value: object) -> None:
    if read_boolean(name, value):
        raise InvalidParameter("This model does not support echo.")


def _suffix(_name: str, value: object) -> None:
    if value != "":
        raise InvalidParameter("This model does not support suffix.")


_BOTH = (
    *SAMPLING_RULES,
    Rule("stream", read_boolean, "stream"),
    Rule("stream_options", _include_usage, "include_usage"),
)
CHAT_RULES = (
    *_BOTH,
    Rule("logprobs", read_boolean, "logprobs"),
    Rule("top_logprobs", read_top, "top_logprobs"),
    Rule("functions", _functions),
)
TEXT_RULES = (
    *_BOTH,
    Rule("logprobs", read_top, "top_logprobs"),
    Rule("echo", _echo),
    Rule("suffix", _suffix),
)
