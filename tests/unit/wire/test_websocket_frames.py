"""Frames of WebSocket tasks: what a client may write, and how pieces of an input become one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgi_socket import TASK_ID, continue_task, finish_task, run_task
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import IllegalInput, InternalError, InvalidParameter, PayloadTooLarge
from dashbelle.vocabulary import Usage
from dashbelle.wire.task_frames import (
    MAX_GATHERED_BYTES,
    ContinueTask,
    FinishTask,
    GatheredInput,
    RunTask,
    TaskEvents,
    parse_instruction,
    task_id_of,
)

HOSTILE_IDS = [None, 5, "", "a" * 129, "a b", "a\n", "a\n" * 3, "你", '"', "\0", [], {}]


@pytest.mark.parametrize(
    ("streaming", "streams_in", "streams_out"),
    [("none", False, False), ("out", False, True), ("in", True, False), ("duplex", True, True)],
)
def test_a_run_task_says_what_streams(streaming: str, *, streams_in: bool, streams_out: bool) -> None:
    frame = run_task(streaming=streaming)
    assert parse_instruction(frame) == RunTask(TASK_ID, frame["payload"], streams_in, streams_out)


def test_later_frames_need_no_streaming() -> None:
    assert parse_instruction(continue_task({"input": {}})) == ContinueTask(TASK_ID, {"input": {}})
    assert parse_instruction(finish_task()) == FinishTask(TASK_ID, {"input": {}})
    assert parse_instruction({"header": {"action": "finish-task", "task_id": "a"}}) == FinishTask("a", {})


def test_the_service_may_be_left_out() -> None:
    frame = run_task(task_group=..., task=..., function=...)
    assert "task" not in frame["payload"]
    assert isinstance(parse_instruction(frame), RunTask)


@pytest.mark.parametrize("task_id", ["a", "9", TASK_ID, "0f4c2c1e-7d1f-4b7e-8f0a-1c2d3e4f5a6b", "a._-Z", "a" * 128])
def test_a_sound_task_id_is_told_back(task_id: str) -> None:
    assert task_id_of(run_task(task_id)) == parse_instruction(run_task(task_id)).task_id == task_id


@pytest.mark.parametrize("task_id", HOSTILE_IDS)
def test_another_task_id_is_refused_and_never_told_back(task_id: object) -> None:
    assert task_id_of(run_task(task_id)) == ""
    with pytest.raises(InvalidParameter, match="task_id"):
        parse_instruction(run_task(task_id))


@pytest.mark.parametrize("frame", [None, [], "x", 5, {}, {"header": None}, {"header": []}, {"payload": {}}])
def test_a_frame_without_header_is_refused(frame: object) -> None:
    assert task_id_of(frame) == ""
    with pytest.raises(InvalidParameter, match="header"):
        parse_instruction(frame)


@pytest.mark.parametrize("payload", [None, [], "x", 5])
def test_a_payload_that_is_no_object_is_refused(payload: object) -> None:
    with pytest.raises(InvalidParameter, match="payload"):
        parse_instruction(run_task() | {"payload": payload})


@pytest.mark.parametrize("action", [None, "", "stop-task", "RUN-TASK", 5, {}])
def test_an_unknown_action_is_refused(action: object) -> None:
    with pytest.raises(InvalidParameter, match="action"):
        parse_instruction({"header": {"action": action, "task_id": "a", "streaming": "none"}, "payload": {}})


@pytest.mark.parametrize("streaming", [None, "", "both", True, [], {}])
def test_an_unknown_streaming_mode_is_refused(streaming: object) -> None:
    with pytest.raises(InvalidParameter, match="streaming"):
        parse_instruction(run_task(streaming=streaming))


@pytest.mark.parametrize("service", [{"task_group": "audio"}, {"task": "tts"}, {"function": "recognition"}])
def test_another_service_is_refused_by_its_name(service: dict[str, str]) -> None:
    (name,) = service
    with pytest.raises(InvalidParameter, match=f"payload.{name} should be"):
        parse_instruction(run_task(**service))


def gathered(*payloads: dict[str, Any]) -> dict[str, Any]:
    pieces = GatheredInput()
    for payload in payloads:
        pieces.add(payload, len(json.dumps(payload)))
    return pieces.whole()


def test_pieces_of_a_prompt_are_joined_in_each_form_that_sdks_send() -> None:
    pieces = [
        {"input": {}},
        {"input": {"prompt": "a"}},
        {"prompt": "b"},
        {"input": "c"},
        {"input": None},
        {"input": {}},
    ]
    assert gathered(*pieces) == {"prompt": "abc"}


def test_pieces_of_messages_and_history_follow_each_other() -> None:
    first = {"input": {"messages": [{"role": "user", "content": "a"}], "history": []}}
    second = {"messages": [{"role": "assistant", "content": "b"}], "history": [{"user": "c", "bot": "d"}]}
    assert gathered(first, second) == {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "history": [{"user": "c", "bot": "d"}],
    }


def test_a_frame_of_the_java_sdk_brings_its_input_alone() -> None:
    assert gathered(run_task(input={"prompt": "a"})["payload"], run_task(input="b")["payload"]) == {"prompt": "ab"}


@pytest.mark.parametrize("value", [5, [], True])
def test_a_piece_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(IllegalInput):
        gathered({"input": value})


@pytest.mark.parametrize("piece", [{"prompt": []}, {"prompt": 5}, {"messages": "a"}, {"messages": {}}, {"history": 1}])
def test_a_piece_of_another_kind_is_refused(piece: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(piece))):
        gathered({"input": piece})


def test_the_pieces_together_are_bounded() -> None:
    pieces = GatheredInput()
    pieces.add({"input": "a"}, MAX_GATHERED_BYTES - 1)
    pieces.add({"input": "b"}, 1)
    with pytest.raises(PayloadTooLarge):
        pieces.add({"input": "c"}, 1)


@given(st.text(), st.text())
def test_no_text_breaks_out_of_an_event(task_id: str, message: str) -> None:
    events = TaskEvents(task_id, message)
    events.name_model(message)
    lines = [
        events.started(),
        events.finished(),
        events.failed(InternalError(message)),
        events.result(b"{}", Usage(1, 2)),
    ]
    for line in lines:
        header = json.loads(line)["header"]
        assert header["task_id"] == task_id
        assert header["attributes"] == {"x-request-id": message, "x-dashbelle-served-by": message}
    assert json.loads(lines[2])["header"]["error_message"] == InternalError(message).message
