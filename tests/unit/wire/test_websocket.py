"""Tasks over one socket: their events, their bounds, their ends; each task has exactly one last event."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import structlog
from asgi_client import KEY, LIMITS, NO_SHELF, REQUEST_ID, Gateway, ScriptedPipeline
from asgi_socket import TASK_ID, Socket, connected, continue_task, finish_task, run_task
from prometheus_client import CollectorRegistry

from dashbelle.engine.catalog import Catalog
from dashbelle.errors import (
    DashbelleError,
    IllegalInput,
    InternalError,
    InvalidApiKey,
    InvalidParameter,
    ModelNotFound,
    PayloadTooLarge,
    QueueFull,
    ServerDraining,
)
from dashbelle.vocabulary import Caller, ChatPrompt, Delta, Message, TextPrompt
from dashbelle.wire.routes import build
from dashbelle.wire.websocket import MAX_TASKS

GOLDEN = Path(__file__).parents[2] / "golden"
HELLO = (Delta("你", 1), Delta("好", 1), Delta("", 0, "stop"))
SERVED_BY = "smollm2-135m-instruct"


def failed(error: DashbelleError, task_id: str = TASK_ID) -> tuple[str, str, str]:
    return task_id, error.code, error.message


async def names(socket: Socket) -> list[str]:
    """The events up to the next last one, by name."""
    return [json.loads(line)["header"]["event"] for line in await socket.answer()]


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


# Input in pieces


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


# Ends


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
