"""The frames of DashScope's WebSocket tasks as pure functions: JSON values -> instructions, deltas -> events."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dashbelle.errors import DashbelleError, IllegalInput, InvalidParameter, PayloadTooLarge
from dashbelle.vocabulary import Usage
from dashbelle.wire.dashscope import encode_usage

MAX_GATHERED_BYTES = 1024 * 1024
"""Of the frames that bring one task's input piece by piece."""

_TASK_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_STREAMING = {"none": (False, False), "out": (False, True), "in": (True, False), "duplex": (True, True)}
"""What streams: the input, the output."""
_SERVICE = {"task_group": "aigc", "task": "text-generation", "function": "generation"}

_EVENT = b'{"header":{"task_id":%b,"event":"%b","attributes":%b},"payload":%b}'
_RESULT = b'{"output":%b,"usage":%b}'
_FAILED = (
    b'{"header":{"task_id":%b,"event":"task-failed","error_code":%b,"error_message":%b,"attributes":%b},"payload":{}}'
)

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class RunTask:
    """Begin a task."""

    task_id: str
    payload: Mapping[str, Any]
    streams_in: bool
    """Whether its input goes on in further frames, up to a finish-task."""
    streams_out: bool
    """Whether its answer is wanted piece by piece."""


@dataclass(frozen=True, slots=True)
class ContinueTask:
    """A further piece of a task's input."""

    task_id: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FinishTask:
    """A task's input is whole."""

    task_id: str
    payload: Mapping[str, Any]


Instruction = RunTask | ContinueTask | FinishTask


def task_id_of(frame: object) -> str:
    """The task that a frame is about; empty if it names none, or none that could be told back."""
    header = frame.get("header") if isinstance(frame, dict) else None
    task_id = header.get("task_id") if isinstance(header, dict) else None
    return task_id if isinstance(task_id, str) and _TASK_ID.fullmatch(task_id) else ""


def parse_instruction(frame: object) -> Instruction:
    """Check a decoded frame's header, and what service it asks for. Raises InvalidParameter."""
    header = frame.get("header") if isinstance(frame, dict) else None
    payload = frame.get("payload", {}) if isinstance(frame, dict) else None
    if not isinstance(header, dict) or not isinstance(payload, dict):
        raise InvalidParameter('A frame should be of the form {"header": {...}, "payload": {...}}.')
    task_id = task_id_of(frame)
    if not task_id:
        raise InvalidParameter("header.task_id should be 1 to 128 letters, digits, '.', '_' or '-'.")
    action = header.get("action")
    if action == "run-task":
        return _run_task(task_id, header.get("streaming"), payload)
    if action == "continue-task":
        return ContinueTask(task_id, payload)
    if action == "finish-task":
        return FinishTask(task_id, payload)
    raise InvalidParameter('header.action should be "run-task", "continue-task" or "finish-task".')


def _run_task(task_id: str, streaming: object, payload: Mapping[str, Any]) -> RunTask:
    if not isinstance(streaming, str) or streaming not in _STREAMING:
        raise InvalidParameter('header.streaming should be "none", "out", "in" or "duplex".')
    for name, served in _SERVICE.items():
        if payload.get(name, served) != served:
            raise InvalidParameter(f'payload.{name} should be "{served}": this server generates text.')
    streams_in, streams_out = _STREAMING[streaming]
    return RunTask(task_id, payload, streams_in, streams_out)


class GatheredInput:
    """The `input` of one task, put together from the pieces that several frames bring."""

    def __init__(self) -> None:
        self._pieces: defaultdict[str, list[Any]] = defaultdict(list)
        self._size_bytes = 0

    def add(self, payload: Mapping[str, Any], size_bytes: int) -> None:
        """Take a frame's input: `payload.input`, or the payload itself, as the Python SDK sends it.

        Prompts are joined, lists of messages and of history lengthened. Raises IllegalInput, InvalidParameter or, above
        MAX_GATHERED_BYTES, PayloadTooLarge.
        """
        self._size_bytes += size_bytes
        if self._size_bytes > MAX_GATHERED_BYTES:
            raise PayloadTooLarge
        piece = payload.get("input", payload)
        if isinstance(piece, str):
            piece = {"prompt": piece}
        if not isinstance(piece, dict | None):
            raise IllegalInput
        for name, kind in (("prompt", str), ("messages", list), ("history", list)):
            self._add(name, kind, piece.get(name) if piece else None)

    def _add(self, name: str, kind: type[str] | type[list[Any]], value: object) -> None:
        if value is None:
            return
        if not isinstance(value, kind):
            raise InvalidParameter(f'Each piece of "{name}" must be a {"string" if kind is str else "list"}.')
        # Joined at the end: a prompt that came letter by letter would else be copied as often.
        self._pieces[name] += [value] if isinstance(value, str) else value

    def whole(self) -> dict[str, Any]:
        """All of it, as one frame would have said it."""
        return {name: "".join(pieces) if name == "prompt" else pieces for name, pieces in self._pieces.items()}


class TaskEvents:
    """The events of one task, as JSON texts. Every one has a payload: the Java SDK looks into it unasked."""

    def __init__(self, task_id: str, request_id: str) -> None:
        """`task_id` is the client's name for the call, `request_id` ours."""
        self._task_id = _encode(task_id)
        self._attributes = {"x-request-id": request_id}
        self._encoded_attributes = _encode(self._attributes)

    def name_model(self, served_by: str) -> None:
        """Say from here on that this model answers, not the one that was asked for."""
        self._encoded_attributes = _encode({**self._attributes, "x-dashbelle-served-by": served_by})

    def started(self) -> bytes:
        """`task-started`, always the first, unless a task fails before."""
        return self._event(b"task-started", b"{}")

    def result(self, output: bytes, usage: Usage) -> bytes:
        """`result-generated`, with an `output` object of dashscope.Outputs or dashscope.Answer."""
        return self._event(b"result-generated", _RESULT % (output, encode_usage(usage)))

    def finished(self) -> bytes:
        """`task-finished`. Its payload is empty: both SDKs would take anything in it for one more result."""
        return self._event(b"task-finished", b"{}")

    def failed(self, error: DashbelleError) -> bytes:
        """`task-failed`, always the last."""
        return _FAILED % (self._task_id, _encode(error.code), _encode(error.message), self._encoded_attributes)

    def _event(self, name: bytes, payload: bytes) -> bytes:
        return _EVENT % (self._task_id, name, self._encoded_attributes, payload)
