"""Input of a task that comes in pieces."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_client import Gateway, ScriptedPipeline
from asgi_socket import HELLO, connected, continue_task, failed, finish_task, names, run_task

from dashbelle.errors import DashbelleError, IllegalInput, InvalidParameter, PayloadTooLarge
from dashbelle.vocabulary import TextPrompt


@pytest.mark.parametrize(("streaming", "results"), [("in", ["result-generated"]), ("duplex", ["result-generated"] * 3)])
async def test_input_may_come_in_pieces(streaming: str, results: list[str]) -> None:
    app = Gateway(ScriptedPipeline(*HELLO))
    async with connected(app.app) as socket:
        socket.say(run_task(streaming=streaming, input={"prompt": "Human:"}))
        assert (await socket.event())["header"]["event"] == "task-started"
        socket.say(continue_task({"prompt": "你"}))
        socket.say(continue_task({"input": {"prompt": "好\n\nAssistant:"}}))
        socket.say(finish_task())
        assert await names(socket) == [*results, "task-finished"]
    assert [call.prompt for call in app.pipeline.calls] == [TextPrompt("Human:你好\n\nAssistant:")]


async def test_an_input_that_came_at_once_is_not_awaited() -> None:
    app = Gateway(ScriptedPipeline(*HELLO))
    async with connected(app.app) as socket:
        for frame in (run_task(streaming="in", input={}), continue_task({"prompt": "hi"}), finish_task()):
            socket.say(frame)
        assert await names(socket) == ["task-started", "result-generated", "task-finished"]
    assert [call.prompt for call in app.pipeline.calls] == [TextPrompt("hi")]


@pytest.mark.parametrize(
    ("piece", "error"),
    [
        ({"input": 5}, IllegalInput()),
        ({"input": {"prompt": 5}}, InvalidParameter('Each piece of "prompt" must be a string.')),
        ({"input": "a" * 1024 * 1024}, PayloadTooLarge()),
    ],
)
async def test_a_bad_piece_ends_its_task(piece: dict[str, Any], error: DashbelleError) -> None:
    app = Gateway()
    async with connected(app.app) as socket:
        socket.say(run_task(streaming="duplex", input={}))
        await socket.event()
        socket.say(continue_task(piece))
        assert await socket.failure() == failed(error)
        assert app.pipeline.calls == []


async def test_an_input_that_is_empty_at_its_end_fails() -> None:
    async with connected(Gateway().app) as socket:
        socket.say(run_task(streaming="in", input=...))
        await socket.event()
        socket.say(finish_task())
        assert (await socket.failure())[1] == "InvalidParameter"


@pytest.mark.parametrize("first", [run_task(streaming="duplex", input=5), run_task(streaming="none", input=5)])
async def test_input_for_a_task_that_has_failed_is_ignored(first: dict[str, Any]) -> None:
    async with connected(Gateway().app) as socket:
        socket.say(first)
        assert await socket.failure() == failed(IllegalInput())
        for frame in (continue_task({"prompt": "a"}), finish_task(), finish_task("other")):
            socket.say(frame)
        # The Java SDK would take a second failure for one of its next task.
        assert (await socket.failure())[0] == "other"
