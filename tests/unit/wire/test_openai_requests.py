"""Bodies of OpenAI's clients: what reaches the model, what is ignored, what is refused with which rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import DashbelleError, EmptyModel, InvalidParameter
from dashbelle.vocabulary import ChatPrompt, Message, Sampling, Stops, TextPrompt
from dashbelle.wire.json_schema import ANY_OBJECT
from dashbelle.wire.logprobs import TOO_MANY
from dashbelle.wire.openai_requests import (
    CHAT_RULES,
    TEXT_RULES,
    CompletionRequest,
    parse_chat,
    parse_text,
    read_named_model,
)

USER = {"role": "user", "content": "hi"}
ONE_TEXT = '"prompt" must be one string that is not empty; token ids and several prompts are not supported.'


def chat(**more: object) -> CompletionRequest:
    return parse_chat({"model": "m", "messages": [USER], **more})


def text(**more: object) -> CompletionRequest:
    return parse_text({"model": "m", "prompt": "hi", **more})


def refusal(parse: Any, **more: object) -> str:  # noqa: ANN401 - chat or text
    with pytest.raises(InvalidParameter) as caught:
        parse(**more)
    return caught.value.message


def test_the_least_body_means_the_defaults() -> None:
    assert chat() == CompletionRequest("m", ChatPrompt((Message("user", "hi"),)), Sampling())
    assert text() == CompletionRequest("m", TextPrompt("hi"), Sampling())


def test_turns_reach_the_model_and_the_developer_is_the_system() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
        {"role": "user", "content": "hi", "name": "Ada"},
        {"role": "assistant", "content": "Hello.", "refusal": None, "tool_calls": None},
        USER,
    ]
    roles = [(message.role, message.content) for message in chat(messages=messages).prompt.messages]  # type: ignore[union-attr]
    assert roles == [
        ("system", "Be brief."),
        ("system", "Be kind."),
        ("user", "hi"),
        ("assistant", "Hello."),
        ("user", "hi"),
    ]


def test_parameters_reach_sampling() -> None:
    given = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 20,
        "seed": 7,
        "max_completion_tokens": 9,
        "stop": ["a", "b"],
        "repetition_penalty": 1.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "n": 2,
    }
    want = Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=20,
        seed=7,
        max_tokens=9,
        stops=Stops(texts=("a", "b")),
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        n=2,
    )
    assert chat(**given).sampling == text(**given).sampling == want


def test_streams_are_asked_for_in_the_body() -> None:
    request = chat(stream=True, stream_options={"include_usage": True})
    assert (request.stream, request.include_usage) == (True, True)
    assert not chat(stream_options={"include_usage": None}).include_usage
    assert not chat(stream=False, stream_options=None).stream


def test_logprobs_of_a_chat_are_a_flag_and_a_number() -> None:
    assert chat(logprobs=True).sampling.logprobs
    assert chat(logprobs=True, top_logprobs=1).top_logprobs == 1
    assert not chat(logprobs=False, top_logprobs=0).sampling.logprobs


def test_logprobs_of_a_text_are_a_number() -> None:
    assert not text(logprobs=None).sampling.logprobs
    assert (text(logprobs=0).sampling.logprobs, text(logprobs=0).top_logprobs) == (True, 0)
    assert (text(logprobs=1).sampling.logprobs, text(logprobs=1).top_logprobs) == (True, 1)


def test_a_schema_reaches_sampling() -> None:
    wrapper = {"name": "flag", "schema": {"type": "boolean"}, "strict": True}
    assert chat(response_format={"type": "json_schema", "json_schema": wrapper}).sampling.json_schema == (
        '{"type":"boolean"}'
    )
    asked = [{"role": "user", "content": "JSON, please"}]
    assert chat(messages=asked, response_format={"type": "json_object"}).sampling.json_schema == ANY_OBJECT


def test_tools_are_noted_for_the_template_to_judge() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    for body in (
        {"tools": [tool]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
        {"messages": [USER, {"role": "tool", "content": "5", "tool_call_id": "1"}]},
    ):
        assert chat(**body).prompt.uses_tools  # type: ignore[union-attr]
    assert not chat(tools=[], tool_choice="none").prompt.uses_tools  # type: ignore[union-attr]


def test_what_changes_nothing_here_is_ignored() -> None:
    ignored = {
        "user": "ada",
        "metadata": {"a": "b"},
        "store": True,
        "logit_bias": {"50256": -100},
        "service_tier": "auto",
        "parallel_tool_calls": False,
        "functions": [],
        "enable_search": False,
        "enable_thinking": False,
        "reasoning_effort": "high",
        "best_of": 1,
        "echo": False,
        "suffix": "",
        "": None,
    }
    assert chat(**ignored) == chat()
    assert text(**ignored) == text()


def test_null_counts_as_absent() -> None:
    assert chat(**{rule.name: None for rule in CHAT_RULES}).sampling == Sampling(top_k=0)
    assert text(**{rule.name: None for rule in TEXT_RULES}).sampling == Sampling(top_k=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"messages": None}, 'Required parameter "messages" missing from request.'),
        ({"messages": []}, "Role must be user or assistant and Content length must be greater than 0"),
        ({"messages": [{"role": "user"}]}, "The content field is a required field."),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            'Content parts must be of the form {"type": "text", "text": "..."}: only text is supported.',
        ),
        ({"temperature": 2}, "Temperature should be in [0.0, 2.0)"),
        ({"frequency_penalty": 3}, "Frequency_penalty should be in [-2.0, 2.0]"),
        ({"n": 5}, "Range of n should be [1, 4]"),
        ({"stream": "yes"}, "'stream' must be Boolean"),
        ({"stream_options": True}, "'stream_options' must be an object"),
        ({"stream_options": {"include_usage": 1}}, "'include_usage' must be Boolean"),
        ({"logprobs": 1}, "'logprobs' must be Boolean"),
        ({"logprobs": True, "top_logprobs": 2}, TOO_MANY),
        ({"top_logprobs": 1}, "top_logprobs needs logprobs to be true."),
        ({"functions": [{"name": "f"}]}, "The tool call is not supported."),
        ({"tools": {}}, "'tools' must be a list"),
        ({"enable_search": True}, "This model does not support enable_search."),
        (
            {"response_format": {"type": "json_object"}},
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
        ),
    ],
)
def test_a_bad_chat_is_refused_with_the_rule(given: dict[str, object], message: str) -> None:
    assert refusal(chat, **given) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *(
            ({"prompt": prompt}, ONE_TEXT)
            for prompt in (None, "", [], ["a", "b"], [1, 2], [[1]], [""], 5)
        ),
        ({"logprobs": 2}, TOO_MANY),
        ({"logprobs": True}, "'logprobs' must be Integer"),
        ({"echo": True}, "This model does not support echo."),
        ({"suffix": "end"}, "This model does not support suffix."),
        ({"tools": [{"type": "function"}]}, "The tool call is not supported."),
    ],
)  # fmt: skip
def test_a_bad_text_completion_is_refused_with_the_rule(given: dict[str, object], message: str) -> None:
    assert refusal(text, **given) == message


def test_a_prompt_may_be_a_list_with_one_string() -> None:
    assert text(prompt=["hi"]).prompt == TextPrompt("hi")


@pytest.mark.parametrize("parse", [parse_chat, parse_text, read_named_model])
@pytest.mark.parametrize("body", [[], None, "x", 1])
def test_a_body_must_be_an_object(parse: Any, body: object) -> None:  # noqa: ANN401 - any of three
    with pytest.raises(InvalidParameter, match="Required body invalid"):
        parse(body)


@pytest.mark.parametrize("parse", [parse_chat, parse_text, read_named_model])
@pytest.mark.parametrize("model", [None, ""])
def test_the_model_must_be_named(parse: Any, model: object) -> None:  # noqa: ANN401 - any of three
    with pytest.raises(EmptyModel):
        parse({"model": model, "messages": [USER], "prompt": "hi"})


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type", "a"]), inner)
    ),
    max_leaves=8,
)
NAMES = ["messages", "prompt", *[rule.name for rule in (*CHAT_RULES, *TEXT_RULES)]]


@given(st.dictionaries(st.sampled_from(NAMES), VALUES) | VALUES)
def test_any_body_is_a_request_or_a_refusal(body: object) -> None:
    named = {"model": "m", **body} if isinstance(body, dict) else body
    for parse in (parse_chat, parse_text):
        try:
            assert parse(named).model == "m"
        except DashbelleError:
            continue
