"""What the models say: prompts in BELLE's form, the same seed twice, several answers to one call."""

from __future__ import annotations

from itertools import pairwise

import pytest
from native_client import LONG_STORY, NativeClient

from running_server import RunningServer

ONE_TURN = "Human:What is the capital of France?\n\nAssistant:"
THREE_TURNS = (
    "Human:Hello, who are you?\n\nAssistant:I am a small assistant.</s>"
    "Human:What is the capital of France?\n\nAssistant:The capital of France is Paris.</s>"
    "Human:And of Italy?\n\nAssistant:"
)
SAMPLED = {"temperature": 1.5, "top_p": 1.0, "max_tokens": 40}
MARKUP = ("Human:", "Assistant:", "<|im")


@pytest.mark.parametrize("prompt", [ONE_TURN, THREE_TURNS], ids=["one turn", "three turns"])
def test_the_stand_in_answers_a_belle_prompt_with_plain_text(belle_server: RunningServer, prompt: str) -> None:
    output = NativeClient(belle_server).answer(prompt, max_tokens=200)["output"]
    assert output["finish_reason"] in {"stop", "length"}
    assert output["text"].strip()
    assert not [mark for mark in MARKUP if mark in output["text"]]


@pytest.mark.parametrize("prompt", [ONE_TURN, THREE_TURNS, "你好,世界 😀\r\n\x00 é"], ids=["one", "three", "odd"])
def test_echo_says_the_prompt_byte_for_byte(echo_server: RunningServer, prompt: str) -> None:
    answer = NativeClient(echo_server, model="echo").answer(prompt)
    assert answer["output"] == {"finish_reason": "stop", "text": prompt}
    assert answer["usage"]["input_tokens"] == answer["usage"]["output_tokens"] == len(prompt.encode())


@pytest.mark.item(40)
def test_a_sampled_answer_is_the_same_for_the_same_seed_and_another_for_another(belle_server: RunningServer) -> None:
    client = NativeClient(belle_server)
    first, again, other = (client.answer(LONG_STORY, seed=seed, **SAMPLED)["output"]["text"] for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("greedy", [{"top_k": 1}, {"temperature": 0}], ids=["top_k", "temperature"])
@pytest.mark.item(40)
def test_a_greedy_answer_does_not_depend_on_the_seed(belle_server: RunningServer, greedy: dict[str, int]) -> None:
    client = NativeClient(belle_server)
    texts = {client.answer(LONG_STORY, seed=seed, max_tokens=40, **greedy)["output"]["text"] for seed in (1, 2, 3)}
    assert len(texts) == 1


def test_a_stream_says_what_the_whole_answer_says(belle_server: RunningServer) -> None:
    client = NativeClient(belle_server)
    with client.stream(LONG_STORY, seed=7, **SAMPLED) as stream:
        texts = [event.text for event in stream]
    assert texts[-1] == client.answer(LONG_STORY, seed=7, **SAMPLED)["output"]["text"]
    assert all(after.startswith(before) for before, after in pairwise(texts))


def test_two_answers_to_one_call_have_indices_and_differ(belle_server: RunningServer) -> None:
    answer = NativeClient(belle_server).answer(LONG_STORY, n=2, result_format="message", seed=7, **SAMPLED)
    first, second = answer["output"]["choices"]
    assert (first["index"], second["index"]) == (0, 1)
    assert first["message"]["content"] != second["message"]["content"]
