"""Tasks over one socket: their answers, their refusals, several at a time; each has exactly one last event."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import structlog
from asgi_client import LIMITS, NO_SHELF, REQUEST_ID, Gateway, ScriptedPipeline
from asgi_socket import HELLO, connected, continue_task, failed, finish_task, names, run_task
from prometheus_client import CollectorRegistry

from dashbelle.engine.catalog import Catalog
from dashbelle.errors import InternalError, InvalidApiKey, ModelNotFound, QueueFull
from dashbelle.vocabulary import Caller, ChatPrompt, Delta, Message
from dashbelle.wire.routes import build
from dashbelle.wire.websocket import MAX_TASKS

GOLDEN = Path(__file__).parents[2] / "golden"
SERVED_BY = "smollm2-135m-instruct"


# Answers


@pytest.mark.parametrize(
    ("golden", "frame", "script"),
    [
        ("ws-whole.jsonl", run_task(), HELLO),
        ("ws-cumulative.jsonl", run_task(streaming="out"), HELLO),
        (
            "ws-incremental.jsonl",
            run_task(streaming="out", parameters={"incremental_output": True, "result_format": "message"}),
            HELLO,
        ),
        ("ws-failed.jsonl", run_task(parameters={"temperature": 7}), HELLO),
        ("ws-failed-mid-stream.jsonl", run_task(streaming="out"), (HELLO[0], InternalError())),
    ],
)
@pytest.mark.item(84, 85)
async def test_events_are_spelt_exactly(golden: str, frame: dict[str, Any], script: tuple[Any, ...]) -> None:
    async with connected(Gateway(ScriptedPipeline(*script)).app) as socket:
        socket.say(frame)
        assert await socket.answer() == (GOLDEN / golden).read_text("utf-8").splitlines()


async def test_a_stand_in_is_named_once_it_is_known() -> None:
    async with connected(Gateway(ScriptedPipeline(*HELLO, served_by=SERVED_BY)).app) as socket:
        socket.say(run_task())
        assert await socket.answer() == (GOLDEN / "ws-stand-in.jsonl").read_text("utf-8").splitlines()


async def test_a_whole_answer_has_every_choice() -> None:
    script = (Delta("b", 1, "stop", index=1), Delta("a", 1, "stop"))
    async with connected(Gateway(ScriptedPipeline(*script)).app) as socket:
        socket.say(run_task(parameters={"n": 2, "result_format": "message"}))
        _, result, _ = await socket.answer()
    choices = json.loads(result)["payload"]["output"]["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["a", "b"]


async def test_the_pipeline_gets_what_the_frame_said() -> None:
    app = Gateway()
    async with connected(app.app, {"x-dashscope-workspace": "ws_1"}) as socket:
        socket.say(run_task(input={"messages": [{"role": "user", "content": "hi"}]}, parameters={"max_tokens": 5}))
        await socket.answer()
    (call,) = app.pipeline.calls
    assert (call.model, call.workspace, call.sampling.max_tokens) == ("belle", "ws_1", 5)
    assert call.prompt == ChatPrompt((Message("user", "hi"),))
    assert call.caller == Caller(1, "ada")


async def test_the_ledger_never_gets_an_id_from_a_client() -> None:
    pipeline = ScriptedPipeline(*HELLO)
    app = build(
        pipeline,
        catalog=Catalog({}),
        shelf=NO_SHELF,
        readiness=list,
        registry=CollectorRegistry(),
        log=structlog.wrap_logger(structlog.testing.CapturingLogger()),
        limits=LIMITS,
    )
    told = []
    async with connected(app) as socket:
        for _ in range(2):
            socket.say(run_task())
            told.append(json.loads((await socket.answer())[0])["header"]["attributes"]["x-request-id"])
    assert [call.request_id for call in pipeline.calls] == told
    assert len({str(uuid.UUID(request_id)) for request_id in told}) == 2


# Refusals


async def test_an_error_of_the_pipeline_is_the_last_event_and_the_socket_goes_on() -> None:
    async with connected(Gateway(ScriptedPipeline(*HELLO, entry=ModelNotFound())).app) as socket:
        for _ in range(2):
            socket.say(run_task())
            assert (await socket.event())["header"]["event"] == "task-started"
            assert await socket.failure() == failed(ModelNotFound())


@pytest.mark.parametrize(
    "frame",
    ["", "{", "[]", "null", '"run-task"', "\0", "{}", '{"header":{}}', '{"a":' * 100 + "1" + "}" * 100, "[" * 10_000,
     json.dumps(run_task()) + "x", json.dumps(run_task(task_id=["a"]))],
)  # fmt: skip
async def test_a_malformed_frame_is_answered_and_harms_nothing(frame: str) -> None:
    async with connected(Gateway().app) as socket:
        socket.say(frame)
        assert (await socket.failure())[:2] == ("", "InvalidParameter")
        socket.say(run_task())
        assert await names(socket) == ["task-started", "result-generated", "task-finished"]


async def test_a_binary_frame_is_answered() -> None:
    async with connected(Gateway().app) as socket:
        socket.say_bytes(json.dumps(run_task()).encode())
        assert (await socket.failure())[:2] == ("", "InvalidParameter")


@pytest.mark.item(87)
async def test_an_unknown_action_names_its_task() -> None:
    async with connected(Gateway().app) as socket:
        socket.say({"header": {"action": "stop-task", "task_id": "t-1"}, "payload": {}})
        assert (await socket.failure())[:2] == ("t-1", "InvalidParameter")


async def test_a_key_that_was_revoked_meanwhile_is_refused() -> None:
    class Forgetful(ScriptedPipeline):
        """Knows the key until it is told to forget it."""

        forgets = False

        async def identify(self, secret: str | None) -> Caller:
            if self.forgets:
                raise InvalidApiKey
            return await super().identify(secret)

    pipeline = Forgetful(*HELLO)
    async with connected(Gateway(pipeline).app) as socket:
        socket.say(run_task())
        assert await names(socket) == ["task-started", "result-generated", "task-finished"]
        pipeline.forgets = True
        socket.say(run_task())
        assert await socket.failure() == failed(InvalidApiKey())


async def test_an_unforeseen_error_is_logged_and_its_task_fails() -> None:
    app = Gateway(ScriptedPipeline(ZeroDivisionError("for the log only")))
    async with connected(app.app) as socket:
        socket.say(run_task())
        assert (await socket.event())["header"]["event"] == "task-started"
        assert await socket.failure() == failed(InternalError())
    unforeseen = app.log_lines[0]
    assert unforeseen["event"] == "unforeseen error"
    assert unforeseen["request_id"] == REQUEST_ID
    assert "ZeroDivisionError: for the log only" in unforeseen["exception"]


# Several tasks


async def test_tasks_run_side_by_side() -> None:
    go_on = asyncio.Event()
    app = Gateway(ScriptedPipeline(HELLO[0], go_on, *HELLO[1:]))
    async with connected(app.app) as socket:
        for task_id in ("a", "b"):
            socket.say(run_task(task_id, "out"))
        begun = [(await socket.event())["header"]["task_id"] for _ in range(4)]
        assert sorted(begun) == ["a", "a", "b", "b"]
        assert app.pipeline.open_calls == 2
        go_on.set()
        ended = json.loads((await socket.answer())[-1]), json.loads((await socket.answer())[-1])
        assert {last["header"]["task_id"] for last in ended} == {"a", "b"}


async def test_a_socket_has_only_so_many_tasks_at_a_time() -> None:
    go_on = asyncio.Event()
    app = Gateway(ScriptedPipeline(go_on, *HELLO))
    async with connected(app.app) as socket:
        for number in range(MAX_TASKS):
            socket.say(run_task(f"t{number}"))
            await socket.event()
        socket.say(run_task("t-late"))
        task_id, code, message = await socket.failure()
        assert (task_id, code) == ("t-late", QueueFull.code)
        assert str(MAX_TASKS) in message
        go_on.set()
        for _ in range(MAX_TASKS):
            await socket.answer()
        socket.say(run_task("t-late"))
        assert await names(socket) == ["task-started", "result-generated", "task-finished"]


@pytest.mark.parametrize(
    "frame",
    [
        run_task("a"),
        continue_task({"input": "more"}, "a"),
        {"header": {"action": "stop-task", "task_id": "a"}, "payload": {}},
        run_task("a") | {"payload": 5},
    ],
    ids=["run-task again", "continue-task", "unknown action", "no payload"],
)
async def test_a_bad_frame_about_a_running_task_is_its_end(frame: dict[str, Any]) -> None:
    app = Gateway(ScriptedPipeline(HELLO[0], asyncio.Event()))
    async with connected(app.app) as socket:
        socket.say(run_task("a", "out"))
        await app.pipeline.reached.wait()
        socket.say(frame)
        events = [json.loads(line)["header"] for line in await socket.answer()]
        assert [event["event"] for event in events] == ["task-started", "result-generated", "task-failed"]
        assert events[-1]["error_code"] == "InvalidParameter"
        assert (app.pipeline.cancelled, app.pipeline.open_calls) == (1, 0)
        socket.say(run_task("b"))
        assert (await socket.event())["header"]["task_id"] == "b"


async def test_a_finish_task_that_nobody_needs_is_ignored() -> None:
    go_on = asyncio.Event()
    async with connected(Gateway(ScriptedPipeline(go_on, *HELLO)).app) as socket:
        socket.say(run_task())
        await socket.event()
        socket.say(finish_task())
        go_on.set()
        assert await names(socket) == ["result-generated", "task-finished"]


async def test_frames_that_come_together_do_not_keep_others_waiting() -> None:
    async with connected(Gateway().app) as socket:
        for _ in range(1000):
            socket.say("{")
        turns = 0
        while socket.sent.qsize() < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 900
