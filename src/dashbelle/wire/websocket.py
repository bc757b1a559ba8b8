"""/api-ws/v1/inference: calls as tasks over a WebSocket, several at a time, each with exactly one last event."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from dashbelle.errors import DashbelleError, InternalError, InvalidParameter, QueueFull, ServerDraining
from dashbelle.vocabulary import Call
from dashbelle.wire.access_log import log_access
from dashbelle.wire.bodies import GenerationRequest, parse_generation
from dashbelle.wire.dashscope import Answer, Outputs, ReplyForm
from dashbelle.wire.http import CallPipeline, CallStream, workspace
from dashbelle.wire.json_text import decode
from dashbelle.wire.liveness import QuitWhen
from dashbelle.wire.socket_task import Entry, Task
from dashbelle.wire.task_frames import (
    Instruction,
    RunTask,
    TaskEvents,
    parse_instruction,
    task_id_of,
)
from dashbelle.wire.upgrade import GOING_AWAY, Upgrade

MAX_TASKS = 8
"""That run at the same time on one socket."""
_REMEMBERED_TASKS = 64
"""That have ended, per socket: the Java SDK may still be sending input when the news reaches it."""
_LARGE_FRAME_BYTES = 1024 * 1024
"""From here on a frame is parsed in a thread, so that streams go on meanwhile."""

_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


class Inference:
    """The endpoint. The key is proved at the upgrade, and again for each task: it may have been revoked meanwhile."""

    def __init__(
        self,
        pipeline: CallPipeline,
        *,
        log: FilteringBoundLogger,
        new_request_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        """`clock` counts seconds."""
        self.pipeline = pipeline
        self.log = log
        self.new_request_id = new_request_id
        self.clock = clock

    async def __call__(self, upgrade: Upgrade) -> None:
        """Serve one socket to its end. Raises DashbelleError before it is accepted."""
        caller = await self.pipeline.identify(upgrade.bearer())
        upgrade.key_name = caller.key_name
        await upgrade.accept()
        await Session(self, upgrade).run()


class Session:
    """One accepted socket: reads instructions and runs their tasks side by side, all of them within `run`."""

    def __init__(self, inference: Inference, upgrade: Upgrade) -> None:
        self._inference = inference
        self._upgrade = upgrade
        self._tasks: dict[str, Task] = {}
        self._runners: set[asyncio.Task[None]] = set()
        self._ended: deque[str] = deque(maxlen=_REMEMBERED_TASKS)
        self._draining = False

    async def run(self) -> None:
        """Return when the socket has ended, and its tasks with it."""
        async with asyncio.TaskGroup() as group:
            drainer = group.create_task(self._close_when_drained())
            while (frame := await self._upgrade.receive_frame()) is not None:
                await self._obey(frame, group)
                await asyncio.sleep(0)  # many small frames may have come together, and others wait for the loop
            for running in (drainer, *self._runners):
                running.cancel()

    async def _close_when_drained(self) -> None:
        await self._upgrade.drain_began()
        self._draining = True
        for task in self._tasks.values():
            if task.gathering is not None:  # its client may take for ever
                task.break_off(ServerDraining())
        while self._runners:
            await asyncio.wait(list(self._runners))
        await self._upgrade.close(GOING_AWAY)

    # Instructions

    async def _obey(self, frame: str | bytes, group: asyncio.TaskGroup) -> None:
        task_id = ""
        try:
            if isinstance(frame, bytes):
                raise InvalidParameter("Binary frames are not supported: this server generates text from text.")
            text = frame.encode()
            value = await _at_leisure(decode, text, len(text))
            task_id = task_id_of(value)
            self._follow(parse_instruction(value), len(text), group)
        except DashbelleError as error:
            await self._refuse(task_id, error)

    def _follow(self, instruction: Instruction, size_bytes: int, group: asyncio.TaskGroup) -> None:
        task = self._tasks.get(instruction.task_id)
        if isinstance(instruction, RunTask):
            if task is not None:
                raise InvalidParameter("run-task came again for a task_id that is running.")
            self._start(instruction, size_bytes, group)
        elif task is not None:
            task.take(instruction, size_bytes)
        elif instruction.task_id not in self._ended:
            raise InvalidParameter("There is no task of this task_id on this connection: run-task begins one.")

    def _start(self, run: RunTask, size_bytes: int, group: asyncio.TaskGroup) -> None:
        if self._draining:
            raise ServerDraining
        if len(self._tasks) >= MAX_TASKS:
            raise QueueFull(f"At most {MAX_TASKS} tasks may run at the same time on one connection.")
        task = self._tasks[run.task_id] = Task(run, size_bytes, self._entry(run.task_id))
        runner = group.create_task(self._run(task))
        self._runners.add(runner)
        runner.add_done_callback(self._runners.discard)

    async def _refuse(self, task_id: str, error: DashbelleError) -> None:
        """Answer a frame that cannot be followed. One that names a running task ends it: no task may fail twice."""
        running = self._tasks.get(task_id)
        if running is not None:
            running.break_off(error)
            return
        entry = self._entry(task_id)
        entry.end(error)
        self._remember(entry)
        await self._upgrade.send_frame(TaskEvents(task_id, entry.request_id).failed(error))

    # Tasks

    async def _run(self, task: Task) -> None:
        try:
            error = await self._outcome(task)
            task.entry.end(error)
            await self._upgrade.send_frame(task.events.finished() if error is None else task.events.failed(error))
        finally:
            del self._tasks[task.entry.task_id]
            self._remember(task.entry)

    async def _outcome(self, task: Task) -> DashbelleError | None:
        """Answer `task`; why it failed, if it did."""
        try:
            async with QuitWhen(task.broken):
                await self._answer(task)
                return None
        except DashbelleError as error:
            if isinstance(error, InternalError):
                self._log_unforeseen(task, error)
            return error
        except Exception as error:  # noqa: BLE001 - the top of the wire for a task: whatever happened, it is answered
            self._log_unforeseen(task, error)
            return InternalError()
        return task.broken_by

    async def _answer(self, task: Task) -> None:
        pipeline, send = self._inference.pipeline, self._upgrade.send_frame
        caller = await pipeline.identify(self._upgrade.bearer())
        request = await _parse(task) if task.gathering is None else None
        await send(task.events.started())
        if request is None:
            await task.input_whole.wait()
            request = await _parse(task)
        call = Call(
            request_id=task.entry.request_id,
            caller=caller,
            model=request.model,
            prompt=request.prompt,
            sampling=request.parameters.sampling,
            workspace=workspace(self._upgrade.headers),
        )
        async with pipeline.open(call) as stream:
            if stream.served_by != call.model:
                task.events.name_model(stream.served_by)
            if task.streams_out:
                await self._send_pieces(task, stream, request.parameters.form)
                return
            result = await _whole(task, stream, request.parameters.form)
        # Behind the block: the Python SDK hangs up at once, and has its answer then.
        await send(result)

    async def _send_pieces(self, task: Task, stream: CallStream, form: ReplyForm) -> None:
        outputs = Outputs(form)
        async for delta in stream:
            await self._upgrade.send_frame(task.events.result(outputs.of(delta), stream.usage_of(delta.index)))

    # The log

    def _entry(self, task_id: str) -> Entry:
        return Entry(task_id, self._inference.new_request_id(), self._upgrade.key_name, self._inference.clock())

    def _remember(self, entry: Entry) -> None:
        """It has ended."""
        self._ended.append(entry.task_id)
        log_access(
            self._inference.log,
            "task",
            request_id=entry.request_id,
            task_id=entry.task_id,
            status=entry.status,
            duration_s=self._inference.clock() - entry.began_at,
            key=entry.key,
            code=entry.code,
            client_gone=entry.status is None,
        )

    def _log_unforeseen(self, task: Task, error: Exception) -> None:
        self._inference.log.error("unforeseen error", request_id=task.entry.request_id, exc_info=error)


async def _parse(task: Task) -> GenerationRequest:
    return await _at_leisure(parse_generation, task.payload, task.size_bytes)


async def _whole(task: Task, stream: CallStream, form: ReplyForm) -> bytes:
    answer = Answer(form)
    async for delta in stream:
        answer.add(delta)
    return task.events.result(answer.output(), stream.usage)


async def _at_leisure(work: Callable[[_Value], _Result], value: _Value, size_bytes: int) -> _Result:
    """`work(value)`, beside the loop if it may take long."""
    if size_bytes > _LARGE_FRAME_BYTES:
        return await asyncio.to_thread(work, value)
    return work(value)
