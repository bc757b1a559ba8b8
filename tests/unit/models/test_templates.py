"""Templates: BELLE's form as it is, its turns for other models, and sandboxed chat templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.models.templates import NEXT_TURN, BadTemplate, BelleTemplate, JinjaTemplate, read_belle
from dashbelle.vocabulary import ChatPrompt, Message, Stops, TextPrompt

CHATML = (
    "{% for message in messages %}{{ '<' + message.role + '>' + message.content + '</>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def chat(*turns: tuple[str, str]) -> ChatPrompt:
    return ChatPrompt(tuple(Message(role, content) for role, content in turns))


@given(st.text())
def test_a_text_prompt_reaches_belle_unchanged(text: str) -> None:
    assert BelleTemplate().render(TextPrompt(text)) == text


def test_turns_are_written_in_belles_form_with_an_end_after_each_answer() -> None:
    prompt = chat(("system", "Be kind."), ("user", "你好"), ("assistant", "你好!"), ("user", "再见"))
    assert BelleTemplate().render(prompt) == "Human:Be kind.\n你好\n\nAssistant:你好!</s>Human:再见\n\nAssistant:"


def test_belle_stops_before_it_writes_the_next_human_turn() -> None:
    assert BelleTemplate().stops == NEXT_TURN
    assert BelleTemplate(stops=Stops()).stops == Stops()


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Human:你好\n\nAssistant:", [("user", "你好")]),
        ("Human: hi \n\nAssistant: ", [("user", "hi")]),
        ("Human: \nhi\n\nAssistant: \n", [("user", "hi")]),
        ("Human:a\n\nAssistant:b</s>Human:c\n\nAssistant:", [("user", "a"), ("assistant", "b"), ("user", "c")]),
        ("Human:a\nAssistant:b\nHuman:c\nAssistant:", [("user", "a"), ("assistant", "b"), ("user", "c")]),
        ("Human: a\n\nBelle: ", [("user", "a")]),
        ("Human:a\n\nAssistant:Sure, ", [("user", "a"), ("assistant", "Sure,")]),
        ("Human:what does 'Human: x' mean?\n\nAssistant:", [("user", "what does 'Human: x' mean?")]),
    ],
)
def test_belles_form_is_read_into_turns(text: str, turns: list[tuple[str, str]]) -> None:
    assert read_belle(text) == chat(*turns)


@pytest.mark.parametrize("text", ["", "hello", "Assistant:hi", "Human:hi", "Intro\nHuman:a\n\nAssistant:", "Human hi"])
def test_other_texts_are_not_taken_for_belles_form(text: str) -> None:
    assert read_belle(text) is None


@given(st.text())
def test_reading_belles_form_never_fails(text: str) -> None:
    read_belle(f"Human:{text}\n\nAssistant:")
    read_belle(text)


def test_a_plain_text_prompt_is_one_user_turn_of_a_chat_model() -> None:
    assert JinjaTemplate(CHATML).render(TextPrompt("hi")) == "<user>hi</><assistant>"


def test_belles_form_is_translated_for_a_chat_model() -> None:
    text = "Human:a\n\nAssistant:b</s>Human:c\n\nAssistant:"
    assert JinjaTemplate(CHATML).render(TextPrompt(text)) == "<user>a</><assistant>b</><user>c</><assistant>"


def test_a_begun_answer_is_continued() -> None:
    assert JinjaTemplate(CHATML).render(TextPrompt("Human:a\n\nAssistant:Sure")) == "<user>a</><assistant>Sure"


def test_what_is_no_template_is_refused() -> None:
    with pytest.raises(BadTemplate):
        JinjaTemplate("{% for %}")


def test_a_template_may_refuse_turns() -> None:
    template = JinjaTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(BadTemplate, match="roles must alternate"):
        template.render(TextPrompt("hi"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages[0].update({}) }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    with pytest.raises(BadTemplate):
        JinjaTemplate(source).render(TextPrompt("hi"))
