"""POST .../multimodal-generation/generation: the same calls, their answers in lists of parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asgi_client import Gateway, ScriptedPipeline, error_of, generation

from dashbelle.vocabulary import ChatPrompt, Delta, Message
from dashbelle.wire.routes import MULTIMODAL_PATH

GOLDEN = Path(__file__).parents[2] / "golden"
ONLY_TEXT = 'Content parts must be of the form {"type": "text", "text": "..."}: only text is supported.'


def asked(content: object, **parameters: object) -> dict[str, Any]:
    return generation(input={"messages": [{"role": "user", "content": content}]}, parameters=parameters)


async def test_an_answer_is_a_list_with_one_part_of_text() -> None:
    app = Gateway(ScriptedPipeline(Delta("你好", 2), Delta("!", 1, "stop")))
    reply = await app.post(asked([{"text": "嗨"}]), path=MULTIMODAL_PATH)
    assert reply.body == (GOLDEN / "multimodal-answer.json").read_bytes()


async def test_so_are_the_pieces_of_a_stream() -> None:
    app = Gateway(ScriptedPipeline(Delta("你", 1), Delta("好", 1, "stop")))
    body = asked([{"text": "嗨"}], incremental_output=True)
    reply = await app.post(body, {"x-dashscope-sse": "enable"}, MULTIMODAL_PATH)
    assert reply.body == (GOLDEN / "multimodal-incremental.sse").read_bytes()


async def test_a_stream_is_cumulative_by_default() -> None:
    app = Gateway(ScriptedPipeline(Delta("你", 1), Delta("好", 1, "stop")))
    reply = await app.post(asked("嗨"), {"x-dashscope-sse": "enable"}, MULTIMODAL_PATH)
    assert '"content":[{"text":"你好"}]'.encode() in reply.pieces[-2]


async def test_the_result_format_changes_nothing_and_n_needs_none() -> None:
    app = Gateway(ScriptedPipeline(Delta("a", 1, "stop"), Delta("b", 1, "stop", index=1)))
    reply = await app.post(asked("嗨", result_format="text", n=2), path=MULTIMODAL_PATH)
    contents = [choice["message"]["content"] for choice in reply.json["output"]["choices"]]
    assert contents == [[{"text": "a"}], [{"text": "b"}]]


@pytest.mark.parametrize("content", ["你好", [{"text": "你"}, {"text": "好"}], [{"type": "text", "text": "你好"}]])
async def test_text_is_taken_in_any_form(content: object) -> None:
    app = Gateway()
    assert (await app.post(asked(content), path=MULTIMODAL_PATH)).status == 200
    assert app.pipeline.calls[0].prompt == ChatPrompt((Message("user", "你好"),))


@pytest.mark.parametrize(
    "part",
    [
        {"image": "https://example.com/cat.png"},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"text": "what is this?", "image": "https://example.com/cat.png"},
        {"audio": "https://example.com/a.wav", "text": ""},
        {"video": ["https://example.com/1.jpg"]},
    ],
)
async def test_anything_but_text_is_refused_with_the_reason(part: object) -> None:
    app = Gateway()
    reply = await app.post(asked([part, {"text": "hello"}]), path=MULTIMODAL_PATH)
    assert error_of(reply) == (400, "InvalidParameter", ONLY_TEXT)
    assert app.pipeline.calls == []


async def test_a_call_is_the_same_call_as_on_the_text_route() -> None:
    app = Gateway()
    for path in (MULTIMODAL_PATH, "/api/v1/services/aigc/text-generation/generation"):
        await app.post(asked("嗨", seed=5, max_tokens=7), path=path)
    first, second = app.pipeline.calls
    assert first == second
