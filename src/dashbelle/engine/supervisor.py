"""Keeps one engine process running: start, watch, restart, and deal its token ids out to the calls that wait."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from dashbelle.engine import frames
from dashbelle.errors import EngineDied, EngineFailed, EngineStalled, ModelUnavailable, SchemaRefused
from dashbelle.vocabulary import FinishReason

WORKER = (sys.executable, "-m", "dashbelle.engine.worker_main")
PINGS_PER_STALL = 5
LOAD_LIMIT_S = 1800.0
"""A 13B model reads and repacks for minutes; a start that takes longer than this is given up."""
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 30.0
GIVE_UP_AFTER = 3
"""Starts that failed in a row, from which on calls are refused at once; further starts are tried all the same."""
log: FilteringBoundLogger = structlog.get_logger("dashbelle.engine")


class Answer:
    """The token ids of one running call, as they arrive."""

    def __init__(self) -> None:
        self._token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._finish: Literal["stop", "length", "failed", "refused"] | None = None
        self._error: EngineFailed | None = None
        self._news = asyncio.Event()

    async def next(self) -> tuple[list[int], list[float], FinishReason | None]:
        """All ids that came since the last time, their logprobs, and why the answer is over, if it is.

        Raises EngineFailed or SchemaRefused.
        """
        await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error
        if self._finish == "failed":
            raise EngineFailed
        if self._finish == "refused":
            raise SchemaRefused
        token_ids, self._token_ids = self._token_ids, []
        logprobs, self._logprobs = self._logprobs, []
        return token_ids, logprobs, self._finish

    @property
    def over(self) -> bool:
        """Whether the process has nothing more to compute for it."""
        return self._finish is not None or self._error is not None

    def take(self, piece: frames.Piece) -> None:
        """News from the process; none is listened to once the answer is over."""
        if self.over:
            return
        self._token_ids += piece.token_ids
        self._logprobs += piece.logprobs
        self._finish = piece.finish
        self._news.set()

    def fail(self, error: EngineFailed) -> None:
        """There will be no more news."""
        self._error = error
        self._news.set()


class Supervisor:
    """One engine process at a time, from `start` to `close`.

    `stall_s`: seconds of silence after which a process is ended, unless its steps are known to take longer.
    """

    def __init__(self, load: frames.Load, *, stall_s: float, command: Sequence[str] = WORKER) -> None:
        self.restarts = 0
        self.pid: int | None = None
        self._load = load
        self._stall_s = stall_s
        self._command = command
        self._numbers = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._ready = False
        self._broken: str | None = None
        self._news = asyncio.Event()
        self._seen = time.monotonic()
        self._steps_s: deque[float] = deque([0.0], maxlen=256)
        self._longest_s = 0.0
        self._stalled = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the process and keep one running until `close`."""
        self._task = asyncio.create_task(self._supervise(), name="engine supervisor")

    @asynccontextmanager
    async def running(self, call: frames.Add) -> AsyncGenerator[Answer, None]:
        """Compute `call` inside the block, once a process is ready; leaving early cancels it there.

        The call's number is set here. Raises ModelUnavailable while the weights cannot be loaded.
        """
        while not self._ready:  # once more if the process has died between the news and our turn
            if self._broken is not None:
                raise ModelUnavailable(retry_after_s=round(LAST_BACKOFF_S))
            await self._changed()
        number, answer = next(self._numbers), Answer()
        self._answers[number] = answer
        try:
            self._send(msgspec.structs.replace(call, call=number))
            yield answer
        finally:
            del self._answers[number]
            if not answer.over:
                self._send(frames.Cancel(number))

    def unready(self) -> str | None:
        """Why this engine cannot serve at the moment: starting, broken, or silent for half of what is patience."""
        if self._task is None or self._task.done():
            return "the engine is not running"
        if not self._ready:
            return self._broken or "the engine is starting"
        silent_s = time.monotonic() - self._seen
        if silent_s > self._patience_s() / 2:
            return f"the engine made no progress for {silent_s:.0f} s"
        return None

    async def close(self) -> None:
        """End the process; calls that still wait get EngineDied."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _changed(self) -> None:
        """Wait until the process has become ready or was found broken."""
        await self._news.wait()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _send(self, command: frames.Command) -> None:
        """Commands are small and the process reads them in a thread of its own: no need to wait for the socket."""
        if self._writer is not None:
            self._writer.write(frames.encode(command))

    def _patience_s(self) -> float:
        """How long the engine may be silent: far longer than any step it was ever seen to take."""
        mean = sum(self._steps_s) / len(self._steps_s)
        return max(self._stall_s, 20 * mean, 3 * self._longest_s)

    async def _supervise(self) -> None:
        """One process after another, with a growing pause between those that never became ready."""
        failures = 0
        while True:
            try:
                was_ready = await self._run_once()
            except OSError as error:  # no process or socket to be had: the next try may find one
                log.exception("engine.not_started", reason=str(error))
                was_ready = False
            failures = 0 if was_ready else failures + 1
            if failures >= GIVE_UP_AFTER:
                self._broken = self._broken or "the engine does not start, see the log"
                self._tell()
            await asyncio.sleep(min(FIRST_BACKOFF_S * 4**failures, LAST_BACKOFF_S))
            self.restarts += 1

    async def _run_once(self) -> bool:
        """Start a process, serve until it ends; whether it ever became ready."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--fd={theirs.fileno()}",
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the gateway, which drains first
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self.pid, self._seen, self._stalled = process.pid, time.monotonic(), False
        self._send(self._load)
        tasks = [asyncio.create_task(_log_lines(process)), asyncio.create_task(self._watch(process))]
        try:
            await self._receive(reader)
            return self._ready
        finally:
            self._ready = False
            for task in tasks:
                task.cancel()
            self._writer.close()
            _kill(process)
            self.pid = None
            exit_code = await asyncio.shield(process.wait())
            log.warning("engine.ended", exit_code=exit_code, stalled=self._stalled, calls_lost=len(self._answers))
            self._fail_all()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        """Deal out events until the process closes its end or says what is no event."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            while True:
                head = await reader.readexactly(frames.LENGTH.size)
                self._take(frames.decode_event(await reader.readexactly(frames.LENGTH.unpack(head)[0])))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Ask the engine for a sign of life and end it when it was silent for too long."""
        while True:
            await asyncio.sleep(self._stall_s / PINGS_PER_STALL)
            self._send(frames.Ping())
            silent_s = time.monotonic() - self._seen
            if silent_s > (self._patience_s() if self._ready else LOAD_LIMIT_S):
                log.error("engine.stalled", silent_s=round(silent_s, 1), calls=len(self._answers))
                self._stalled = True
                _kill(process)

    def _take(self, event: frames.Event) -> None:
        self._seen = time.monotonic()
        match event:
            case frames.Step(pieces, seconds):
                self._steps_s.append(seconds)
                self._longest_s = max(self._longest_s, seconds)
                for piece in pieces:
                    self._deal(piece)
            case frames.Ready(load_s, warm_up_s, longest_step_s):
                self._longest_s = longest_step_s
                self._broken = None
                self._ready = True
                self._tell()
                log.info("engine.ready", pid=self.pid, load_s=round(load_s, 2), warm_up_s=round(warm_up_s, 2))
            case frames.Broken(reason):
                self._broken = "the model cannot be loaded, see the log"
                self._tell()
                log.error("engine.broken", reason=reason)

    def _deal(self, piece: frames.Piece) -> None:
        answer = self._answers.get(piece.call)
        if answer is not None:  # else: cancelled meanwhile
            answer.take(piece)

    def _fail_all(self) -> None:
        for answer in self._answers.values():
            answer.fail(EngineStalled() if self._stalled else EngineDied())


def _kill(process: asyncio.subprocess.Process) -> None:
    """Not `process.kill`: that polls first, and so takes the exit code away from the event loop's own watcher."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


async def _log_lines(process: asyncio.subprocess.Process) -> None:
    """What the engine's library prints goes to our log, line by line."""
    if process.stdout is None:
        return
    try:
        async for line in process.stdout:
            log.info("engine.said", line=line.decode(errors="replace").rstrip()[:2000])
    except ValueError:  # a line longer than the reader's buffer
        log.info("engine.said", line="(a very long line)")
