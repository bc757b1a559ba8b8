"""Compatible replies byte for byte, against frames composed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import InternalError
from dashbelle.vocabulary import Delta, TokenLogprob, Usage
from dashbelle.wire.openai_choices import ChatChoices, Choices, TextChoices
from dashbelle.wire.openai_replies import DONE, Answer, Events, ReplyHead

GOLDEN = Path(__file__).parents[2] / "golden"
ID = "0f4c2c1e-7d1f-4b7e-8f0a-1c2d3e4f5a6b"
HEAD = ReplyHead(ID, "belle", 1_700_000_000.9)

HELLO = [Delta("你", 1), Delta("好", 1), Delta("", 0, "stop")]
TWO_CHOICES = [
    Delta("你", 1),
    Delta("Hi", 2, index=1),
    Delta("好", 1, "stop"),
    Delta("!", 1, "length", index=1),
]
HI = TokenLogprob(b"Hi", -0.25)
HALVES = (TokenLogprob(b"\xe5\xa5", -1.5), TokenLogprob(b"\xbd", float("-inf")))
WITH_LOGPROBS = [Delta("Hi", 1, logprobs=(HI,)), Delta("好", 2, "stop", logprobs=HALVES)]


def events_of(choices: Choices, deltas: list[Delta], *, include_usage: bool = False) -> bytes:
    events = Events(HEAD, choices, include_usage=include_usage)
    usage = Usage(8, sum(delta.token_count for delta in deltas))
    return b"".join(events.result(delta, usage) for delta in deltas) + events.end(usage)


def answer_of(choices: Choices, deltas: list[Delta]) -> bytes:
    answer = Answer(HEAD, choices)
    for delta in deltas:
        answer.add(delta)
    return answer.body(Usage(8, sum(delta.token_count for delta in deltas)))


@pytest.mark.parametrize(
    ("golden", "choices", "deltas"),
    [
        ("openai-chat.sse", ChatChoices(), HELLO),
        ("openai-chat-two-choices.sse", ChatChoices(), TWO_CHOICES),
        ("openai-chat-logprobs.sse", ChatChoices(logprobs=True), WITH_LOGPROBS),
        ("openai-text.sse", TextChoices(), HELLO),
    ],
)
def test_events_are_spelt_exactly(golden: str, choices: Choices, deltas: list[Delta]) -> None:
    assert events_of(choices, deltas) == (GOLDEN / golden).read_bytes()


def test_usage_is_an_event_of_its_own_when_asked_for() -> None:
    stream = events_of(ChatChoices(), [Delta("你好", 2, "length")], include_usage=True)
    assert stream == (GOLDEN / "openai-chat-usage.sse").read_bytes()


def test_an_error_within_a_stream_is_an_event_and_then_the_end() -> None:
    events = Events(HEAD, ChatChoices(), include_usage=True)
    stream = events.result(HELLO[0], Usage(8, 1)) + events.error(InternalError())
    assert stream == (GOLDEN / "openai-error-mid-stream.sse").read_bytes()


@pytest.mark.parametrize(
    ("golden", "choices", "deltas"),
    [
        ("openai-chat-answer.json", ChatChoices(), [Delta("你好", 2), Delta("!", 1, "stop")]),
        (
            "openai-chat-logprobs-answer.json",
            ChatChoices(logprobs=True, top_logprobs=1),
            [Delta("Hi", 1, "stop", logprobs=(HI,))],
        ),
        ("openai-text-answer.json", TextChoices(), [Delta("你好", 2), Delta("!", 1, "stop")]),
        (
            "openai-text-logprobs-answer.json",
            TextChoices(logprobs=True, top_logprobs=1),
            [
                Delta("好", 1, logprobs=(TokenLogprob("好".encode(), -0.5),)),
                Delta(" Hi", 1, "length", logprobs=(TokenLogprob(b" Hi", -0.25),)),
            ],
        ),
    ],
)
def test_answers_are_spelt_exactly(golden: str, choices: Choices, deltas: list[Delta]) -> None:
    assert answer_of(choices, deltas) == (GOLDEN / golden).read_bytes()


def test_choices_come_in_order_whatever_finished_first() -> None:
    deltas = [Delta("b", 1, "stop", index=1), Delta("a", 1, "stop")]
    choices = json.loads(answer_of(ChatChoices(), deltas))["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [(0, "a"), (1, "b")]


def test_offsets_of_text_logprobs_go_on_from_event_to_event() -> None:
    choices = TextChoices(logprobs=True)
    deltas = [
        Delta("ab", 1, logprobs=(TokenLogprob(b"ab", -1.0),)),
        Delta("x", 1, index=1, logprobs=(TokenLogprob(b"x", -1.0),)),
        Delta("好c", 3, logprobs=(*HALVES, TokenLogprob(b"c", -1.0))),
    ]
    lists = [json.loads(choices.part(delta))["logprobs"] for delta in deltas]
    assert [told["text_offset"] for told in lists] == [[0], [0], [2, 3, 3]]
    assert [told["top_logprobs"] for told in lists] == [None, None, None]


@given(st.text(max_size=20), st.text(max_size=8))
def test_no_text_breaks_out_of_its_event(text: str, model: str) -> None:
    head = ReplyHead(ID, model, 0)
    for choices in (ChatChoices(), TextChoices()):
        stream = Events(head, choices, include_usage=False).result(Delta(text, 1, "stop"), Usage(1, 1)) + DONE
        lines = stream.decode().splitlines()
        assert [line for line in lines if line and not line.startswith("data: ")] == []
        told = [json.loads(line[6:]) for line in lines if line and line != "data: [DONE]"]
        (choice,) = told[-1]["choices"]
        assert (choice["delta"]["content"] if "delta" in choice else choice["text"]) == text
        assert told[-1]["model"] == model
