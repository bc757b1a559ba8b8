"""The body of a generation request -> vocabulary; shared by HTTP, WebSocket and the tokenizer's route."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dashbelle.errors import EmptyInput, EmptyModel, IllegalInput, InvalidParameter
from dashbelle.vocabulary import ChatPrompt, Message, Prompt, TextPrompt
from dashbelle.wire.parameters import Parameters, parse_parameters
from dashbelle.wire.response_format import check_json_word

_ROLES = frozenset({"system", "user", "assistant", "tool"})
_MEDIA = frozenset({"image", "image_url", "audio", "input_audio", "video", "video_url", "file"})
"""The multimodal route names a part by its key. Beside a text they must not be overlooked."""
_BAD_MESSAGE = "Role must be user or assistant and Content length must be greater than 0"
_NO_PROMPT = 'Either "prompt" or "messages" must exist and cannot both be none'
_NOT_A_STRING = "input content must be a string."
_NO_TOOLS = "The tool call is not supported."


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A checked request, not yet attributed to a caller."""

    model: str
    prompt: Prompt
    parameters: Parameters


def parse_generation(body: object, *, as_parts: bool = False) -> GenerationRequest:
    """Check a decoded body: model, then input, then parameters; unknown keys are ignored.

    `as_parts`: answer as the multimodal route does.
    Raises InvalidParameter, EmptyModel, EmptyInput or IllegalInput.
    """
    if not isinstance(body, dict):
        raise InvalidParameter("Required body invalid, please check the request body format.")
    model, prompt = read_model(body.get("model")), _prompt(body.get("input"))
    parameters = parse_parameters(body.get("parameters"), as_parts=as_parts)
    check_json_word(body.get("parameters"), prompt)
    if parameters.uses_tools:
        prompt = offer_tools(prompt)
    return GenerationRequest(model, prompt, parameters)


def read_model(value: object) -> str:
    """The model's name. Raises EmptyModel, InvalidParameter."""
    if value is None or value == "":
        raise EmptyModel
    if not isinstance(value, str):
        raise InvalidParameter("'model' must be String")
    return value


def _prompt(given: object) -> Prompt:
    """The prompt of any of the four forms of `input`. Non-empty messages win over a prompt beside them."""
    if given is None:
        raise EmptyInput
    if not isinstance(given, dict):
        raise IllegalInput
    prompt, messages, history = given.get("prompt"), given.get("messages"), given.get("history")
    if messages is not None:
        return read_messages(messages)
    if history is not None and history != []:
        return ChatPrompt(_history(history, prompt))
    return TextPrompt(_text_prompt(prompt))


def _text_prompt(value: object) -> str:
    if value is None:
        raise InvalidParameter(_NO_PROMPT)
    if not isinstance(value, str):
        raise InvalidParameter(_NOT_A_STRING)
    if not value:
        raise InvalidParameter('Length of "prompt" must be greater than 0')
    return value


def read_messages(value: object) -> ChatPrompt:
    """The prompt of a list of messages. Raises InvalidParameter."""
    if not isinstance(value, list) or not value:
        raise InvalidParameter(_BAD_MESSAGE)
    messages = tuple(_message(entry) for entry in value)
    return ChatPrompt(messages, uses_tools=any(_speaks_of_tools(entry) for entry in value))


def offer_tools(prompt: Prompt) -> ChatPrompt:
    """The prompt with tools beside it, which only a conversation can have. Raises InvalidParameter."""
    if isinstance(prompt, TextPrompt):
        raise InvalidParameter(_NO_TOOLS)
    return replace(prompt, uses_tools=True)


def _speaks_of_tools(message: dict[str, Any]) -> bool:
    return message.get("role") == "tool" or bool(message.get("tool_calls"))


def _message(value: object) -> Message:
    if not isinstance(value, dict):
        raise InvalidParameter(_BAD_MESSAGE)
    role = value.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidParameter(_BAD_MESSAGE)
    given = value.get("content")
    content = "" if given is None and value.get("tool_calls") else _content(given)
    if not content and not _speaks_of_tools(value):
        raise InvalidParameter(_BAD_MESSAGE)
    return Message(role, content)


def _content(value: object) -> str:
    """The text of a string or of a list of text parts."""
    if value is None:
        raise InvalidParameter("The content field is a required field.")
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise InvalidParameter(_NOT_A_STRING)
    return "".join(_part(part) for part in value)


def _part(value: object) -> str:
    part = value if isinstance(value, dict) and _MEDIA.isdisjoint(value) else {}
    text = part.get("text") if part.get("type", "text") == "text" else None
    if not isinstance(text, str):
        raise InvalidParameter(
            'Content parts must be of the form {"type": "text", "text": "..."}: only text is supported.'
        )
    return text


def _history(value: object, prompt: object) -> tuple[Message, ...]:
    """The deprecated form: pairs of user and bot turns, then the prompt as the open question.

    Without a prompt the last pair must lack its bot turn.
    """
    if not isinstance(value, list):
        raise InvalidParameter('"history" must be a list.')
    turns = [turn for pair in value for turn in _pair(pair)]
    if prompt is not None:
        turns.append(Message("user", _text_prompt(prompt)))
    if turns[-1].role != "user":
        raise InvalidParameter(_NO_PROMPT)
    return tuple(turns)


def _pair(value: object) -> list[Message]:
    user, bot = (value.get("user"), value.get("bot")) if isinstance(value, dict) else (None, None)
    if not isinstance(user, str) or not user or not isinstance(bot, str | None):
        raise InvalidParameter('Each entry of "history" must be of the form {"user": "...", "bot": "..."}.')
    return [Message("user", user), *([Message("assistant", bot)] if bot else [])]
