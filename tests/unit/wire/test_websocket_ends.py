"""How sockets and their tasks end: hang-ups, cancellation, the drain; and what the log says of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgi_client import KEY, REQUEST_ID, Gateway, ScriptedPipeline
from asgi_socket import HELLO, TASK_ID, Socket, connected, failed, names, run_task

from dashbelle.errors import QueueFull, ServerDraining
from dashbelle.vocabulary import Delta


@pytest.mark.parametrize("streaming", ["none", "out"])
async def test_a_client_that_hangs_up_ends_its_tasks(streaming: str) -> None:
    app = Gateway(ScriptedPipeline(HELLO[0], asyncio.Event()))
    async with connected(app.app) as socket:
        for task_id in ("a", "b"):
            socket.say(run_task(task_id, streaming))
            await socket.event()
        while app.pipeline.open_calls < 2:
            await asyncio.sleep(0)
    assert (app.pipeline.cancelled, app.pipeline.open_calls) == (2, 0)
    tasks = [line for line in app.log_lines if line["event"] == "task"]
    assert [(line["status"], line["client_gone"]) for line in tasks] == [(499, True)] * 2


async def test_a_client_that_hangs_up_while_events_cannot_be_sent_ends_its_tasks() -> None:
    app = Gateway(ScriptedPipeline(*HELLO))
    async with connected(app.app) as socket:
        socket.readable.clear()
        socket.say(run_task(streaming="out"))
        while socket.reads < 3:
            await asyncio.sleep(0)
    assert app.pipeline.open_calls == 0


async def test_a_cancelled_server_task_ends_everything() -> None:
    app = Gateway(ScriptedPipeline(HELLO[0], asyncio.Event()))
    socket = Socket()
    running = asyncio.create_task(
        app.app(socket.scope({"authorization": f"Bearer {KEY}"}), socket.receive, socket.send)
    )
    socket.say(run_task())
    await app.pipeline.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert app.pipeline.open_calls == 0


async def test_an_idle_socket_is_closed_when_the_server_drains() -> None:
    async with connected(Gateway().app) as socket:
        socket.draining.set()
        assert await socket.sent.get() == {"type": "websocket.close", "code": 1001, "reason": ""}


async def test_a_drain_lets_running_tasks_end_and_takes_no_others() -> None:
    go_on = asyncio.Event()
    app = Gateway(ScriptedPipeline(HELLO[0], go_on, *HELLO[1:]))
    async with connected(app.app) as socket:
        socket.say(run_task("running"))
        await app.pipeline.reached.wait()
        socket.say(run_task("gathering", "duplex"))
        assert [(await socket.event())["header"]["task_id"] for _ in range(2)] == ["running", "gathering"]
        socket.draining.set()
        assert await socket.failure() == failed(ServerDraining(), "gathering")
        socket.say(run_task("late"))
        assert await socket.failure() == failed(ServerDraining(), "late")
        go_on.set()
        assert await names(socket) == ["result-generated", "task-finished"]
        assert (await socket.sent.get())["code"] == 1001


# The log


async def test_each_task_is_one_log_line() -> None:
    app = Gateway(ScriptedPipeline(*HELLO))
    async with connected(app.app) as socket:
        socket.say(run_task())
        await socket.answer()
        socket.say("{")
        await socket.failure()
    common = {"event": "task", "request_id": REQUEST_ID, "duration_ms": 100.0, "key": "ada"}
    done, refused, upgrade = app.log_lines
    assert done == {**common, "task_id": TASK_ID, "status": 200}
    assert refused == {**common, "task_id": "", "status": 400, "code": "InvalidParameter"}
    assert (upgrade["event"], upgrade["status"], upgrade["key"]) == ("request", 101, "ada")


async def test_the_log_has_no_prompt_answer_key_or_query() -> None:
    scripts: list[tuple[Any, ...]] = [(Delta("canary-answer", 1, "stop"),), (ZeroDivisionError(),), (QueueFull(),)]
    frames = [run_task(input={"prompt": "canary-prompt"}), run_task("canary prompt"), '"canary"', "{canary"]
    for script in scripts:
        app = Gateway(ScriptedPipeline(*script))
        async with connected(app.app) as socket:
            for frame in frames:
                socket.say(frame)
                await socket.answer()
        assert len(app.log_lines) > len(frames)
        assert "canary" not in app.log
