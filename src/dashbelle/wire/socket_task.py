"""One task on a WebSocket: its input as it comes in, what may end it early, what the log will say; sends nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dashbelle.errors import DashbelleError, InvalidParameter
from dashbelle.wire.task_frames import ContinueTask, FinishTask, GatheredInput, RunTask, TaskEvents


@dataclass(slots=True)
class Entry:
    """What the log will say of one task, or of a frame that became none."""

    task_id: str
    request_id: str
    """Ours, never the client's; the ledger knows the call by it."""
    key: str | None
    began_at: float
    status: int | None = None
    """None until the last event."""
    code: str | None = None

    def end(self, error: DashbelleError | None) -> None:
        """It has come to its last event."""
        self.status, self.code = (200, None) if error is None else (error.status, error.code)


class Task:
    """One call over a socket, from its run-task on."""

    def __init__(self, run: RunTask, size_bytes: int, entry: Entry) -> None:
        """Raises what GatheredInput raises."""
        self.entry = entry
        self.events = TaskEvents(entry.task_id, entry.request_id)
        self.payload = run.payload
        self.size_bytes = size_bytes
        self.streams_out = run.streams_out
        self.gathering = GatheredInput() if run.streams_in else None
        """None once the input is whole."""
        if self.gathering is not None:
            self.gathering.add({"input": run.payload.get("input")}, size_bytes)
        self.input_whole = asyncio.Event()
        self.broken_by: DashbelleError | None = None
        self._broken = asyncio.Event()

    def take(self, more: ContinueTask | FinishTask, size_bytes: int) -> None:
        """Take a later frame of the input. Raises InvalidParameter, and what GatheredInput raises."""
        is_end = isinstance(more, FinishTask)
        if self.gathering is None:
            if not is_end:
                raise InvalidParameter("The input of this task is whole: no continue-task can follow.")
            return
        self.gathering.add(more.payload, size_bytes)
        if is_end:
            self.payload = {**self.payload, "input": self.gathering.whole()}
            self.gathering = None
            self.input_whole.set()

    def break_off(self, error: DashbelleError) -> None:
        """End it with `error`, unless it ends otherwise first."""
        self.broken_by = self.broken_by or error
        self._broken.set()

    async def broken(self) -> None:
        """Return when it was broken off."""
        await self._broken.wait()
