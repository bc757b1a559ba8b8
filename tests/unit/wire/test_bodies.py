"""The four forms of input, the errors in their order, and that no body at all can raise anything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dashbelle.errors import DashbelleError, EmptyInput, EmptyModel, IllegalInput, InvalidParameter
from dashbelle.vocabulary import ChatPrompt, Message, Prompt, TextPrompt
from dashbelle.wire.bodies import GenerationRequest, parse_generation
from dashbelle.wire.dashscope import Events
from dashbelle.wire.parameters import RULES

BAD_MESSAGE = "Role must be user or assistant and Content length must be greater than 0"
NO_PROMPT = 'Either "prompt" or "messages" must exist and cannot both be none'
USER = {"role": "user", "content": "hi"}


def prompt_of(**given: object) -> Prompt:
    return parse_generation({"model": "m", "input": given}).prompt


def chat(*turns: tuple[str, str]) -> ChatPrompt:
    return ChatPrompt(tuple(Message(role, content) for role, content in turns))


def refusal(body: object) -> DashbelleError:
    with pytest.raises(DashbelleError) as caught:
        parse_generation(body)
    return caught.value


def test_a_prompt_is_taken_as_it_is() -> None:
    text = "Human:你好\r\n\0😀\n\nAssistant:"
    assert prompt_of(prompt=text) == TextPrompt(text)


def test_messages_become_turns() -> None:
    messages = [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Hello."}, USER]
    want = chat(("system", "Be brief."), ("user", "hi"), ("assistant", "Hello."), ("user", "hi"))
    assert prompt_of(messages=messages) == want


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a", "cache_control": {}}, {"text": "b"}, {"text": ""}]
    assert prompt_of(messages=[{"role": "user", "content": parts}]) == chat(("user", "ab"))


def test_messages_win_over_a_prompt_beside_them() -> None:
    assert prompt_of(prompt=["ignored"], messages=[USER], history="ignored") == chat(("user", "hi"))


def test_keys_that_are_not_known_are_ignored() -> None:
    message = {**USER, "name": "x", "partial": True, "reasoning_content": "y", "tool_calls": None}
    body = {"model": "m", "input": {"messages": [message], "more": 1}, "stream": True, "task": []}
    assert parse_generation(body).prompt == chat(("user", "hi"))


def test_history_and_prompt_become_turns() -> None:
    history = [{"user": "a", "bot": "b"}, {"user": "c", "bot": ""}, {"user": "d", "bot": None}, {"user": "e"}]
    want = chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("user", "d"), ("user", "e"), ("user", "f"))
    assert prompt_of(history=history, prompt="f") == want


def test_history_alone_may_end_with_an_open_question() -> None:
    assert prompt_of(history=[{"user": "a", "bot": "b"}, {"user": "c"}]) == chat(
        ("user", "a"), ("assistant", "b"), ("user", "c")
    )


@pytest.mark.parametrize("history", [[], None])
def test_empty_history_leaves_the_prompt_as_it_is(history: object) -> None:
    assert prompt_of(history=history, prompt="Human:a") == TextPrompt("Human:a")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, NO_PROMPT),
        ({"prompt": None, "messages": None}, NO_PROMPT),
        ({"prompt": ""}, 'Length of "prompt" must be greater than 0'),
        ({"prompt": ["a\n", "b\n"]}, "input content must be a string."),
        ({"prompt": 5}, "input content must be a string."),
        ({"prompt": "a", "messages": []}, BAD_MESSAGE),
        ({"messages": {}}, BAD_MESSAGE),
        ({"messages": "hi"}, BAD_MESSAGE),
        ({"messages": ["hi"]}, BAD_MESSAGE),
        ({"messages": [USER, None]}, BAD_MESSAGE),
        ({"messages": [{"content": "a"}]}, BAD_MESSAGE),
        ({"messages": [{"role": "robot", "content": "a"}]}, BAD_MESSAGE),
        ({"messages": [{"role": ["user"], "content": "a"}]}, BAD_MESSAGE),
        ({"messages": [{"role": "user", "content": ""}]}, BAD_MESSAGE),
        ({"messages": [{"role": "user", "content": []}]}, BAD_MESSAGE),
        ({"messages": [{"role": "user", "content": [{"text": ""}]}]}, BAD_MESSAGE),
        ({"messages": [{"role": "user"}]}, "The content field is a required field."),
        ({"messages": [{"role": "user", "content": 5}]}, "input content must be a string."),
        ({"messages": [{"role": "tool", "content": 5}]}, "input content must be a string."),
        ({"history": [{"user": "a", "bot": "b"}]}, NO_PROMPT),
        ({"history": {"user": "a"}, "prompt": "b"}, '"history" must be a list.'),
        ({"history": [{"user": "a"}], "prompt": ""}, 'Length of "prompt" must be greater than 0'),
    ],
)
def test_bad_input_is_refused_with_the_rule(given: dict[str, object], message: str) -> None:
    error = refusal({"model": "m", "input": given})
    assert type(error) is InvalidParameter
    assert error.message == message


@pytest.mark.parametrize(
    "part", [{"type": "image", "image": "x"}, {"type": "image", "text": "x"}, {"text": 1}, {}, "a", None, []]
)
def test_parts_that_are_no_text_are_refused(part: object) -> None:
    error = refusal({"model": "m", "input": {"messages": [{"role": "user", "content": [{"text": "a"}, part]}]}})
    assert "only text is supported" in error.message


@pytest.mark.parametrize("pair", [None, "a", {}, {"user": ""}, {"user": 1}, {"bot": "a"}, {"user": "a", "bot": 1}])
def test_history_must_be_pairs(pair: object) -> None:
    error = refusal({"model": "m", "input": {"prompt": "a", "history": [pair]}})
    assert error.message.startswith('Each entry of "history"')


@pytest.mark.parametrize("body", [None, [], "x", 5, True, [{}]])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    assert refusal(body).message == "Required body invalid, please check the request body format."


@pytest.mark.parametrize("absent", [{}, {"model": None}, {"model": ""}])
def test_a_model_is_required(absent: dict[str, object]) -> None:
    assert type(refusal({**absent, "input": {"prompt": "a"}})) is EmptyModel


@pytest.mark.parametrize("value", [5, [], {}, False])
def test_a_model_is_a_string(value: object) -> None:
    assert refusal({"model": value, "input": {"prompt": "a"}}).message == "'model' must be String"


def test_an_input_is_required_and_an_object() -> None:
    assert type(refusal({"model": "m"})) is EmptyInput
    assert type(refusal({"model": "m", "input": None})) is EmptyInput
    values: list[object] = [[], "a", 0, False]
    for value in values:
        assert type(refusal({"model": "m", "input": value})) is IllegalInput


def test_model_input_and_parameters_are_checked_in_this_order() -> None:
    assert type(refusal({"input": 1, "parameters": 1})) is EmptyModel
    assert type(refusal({"model": "m", "input": 1, "parameters": 1})) is IllegalInput
    assert refusal({"model": "m", "input": {"prompt": ""}, "parameters": 1}).message.startswith("Length of")
    assert "parameters" in refusal({"model": "m", "input": {"prompt": "a"}, "parameters": 1}).message


Strategy = st.SearchStrategy[object]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES: Strategy = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def objects(*names: str, values: Strategy = VALUES) -> Strategy:
    """Objects with some of the keys that matter."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, values)) | VALUES


ROLES = st.sampled_from(["system", "user", "assistant", "tool"]) | VALUES
PARTS = st.lists(objects("type", "text")) | VALUES
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": PARTS}, optional={"tool_calls": VALUES}) | VALUES)
INPUTS = st.fixed_dictionaries(
    {}, optional={"prompt": VALUES, "messages": MESSAGES | VALUES, "history": st.lists(objects("user", "bot")) | VALUES}
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.just("m") | VALUES,
        "input": INPUTS | st.just({"prompt": "a"}) | VALUES,
        "parameters": objects(*[rule.name for rule in RULES], values=VALUES),
    },
)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
    ],
)
def test_messages_about_tools_are_noted(message: dict[str, object]) -> None:
    prompt = prompt_of(messages=[USER, message])
    assert isinstance(prompt, ChatPrompt)
    assert prompt.uses_tools


def test_tools_need_messages() -> None:
    tools = {"tools": [{"type": "function"}]}
    body = {"model": "m", "input": {"messages": [USER]}, "parameters": tools}
    assert parse_generation(body).prompt == replace(chat(("user", "hi")), uses_tools=True)
    error = refusal({"model": "m", "input": {"prompt": "hi"}, "parameters": tools})
    assert error.message == "The tool call is not supported."


@pytest.mark.parametrize(
    "given", [{"prompt": "Write a JSON object"}, {"messages": [USER, {**USER, "content": "json?"}]}]
)
def test_a_json_object_must_be_asked_for_in_words(given: dict[str, object]) -> None:
    parameters = {"response_format": {"type": "json_object"}}
    assert parse_generation({"model": "m", "input": given, "parameters": parameters}).parameters.sampling.json_schema
    error = refusal({"model": "m", "input": {"messages": [USER]}, "parameters": parameters})
    assert error.message == (
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    )


@given(BODIES | VALUES)
@example({"model": "m", "input": {"prompt": "a"}, "parameters": {"repetition_penalty": 10**400, "seed": 1e300}})
def test_any_value_is_a_request_or_a_refusal(body: object) -> None:
    try:
        request = parse_generation(body)
    except DashbelleError:
        return
    assert isinstance(request, GenerationRequest)
    assert request.model
    match request.prompt:
        case TextPrompt(text):
            assert text
        case ChatPrompt(messages):
            assert messages
            assert request.prompt.uses_tools or all(message.content for message in messages)
    assert 1 <= request.parameters.sampling.n <= 4
    Events("id", request.parameters.form)
