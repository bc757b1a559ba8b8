"""The one thread that writes: what waits is committed together, and each caller is told what became of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from dashbelle.store.failures import StoreUnavailable, failure, outward

GROUP_LIMIT = 256

Item = TypeVar("Item")
T = TypeVar("T")

Batch = Callable[[Connection, Sequence[Item]], Sequence[T | Exception]]
"""Writes several items at once; one outcome per item, in their order. An exception among them is raised to the caller
of that item, which must have changed nothing; one that is raised undoes all, and the items are tried one by one."""


@dataclass(slots=True)
class Job(Generic[Item, T]):
    """One item on its way through the writer, and who waits for it."""

    batch: Batch[Item, T]
    item: Item
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[T]
    outcome: T | Exception = field(init=False)

    @property
    def failed(self) -> bool:
        """Whether its caller will see an exception."""
        return hasattr(self, "outcome") and isinstance(self.outcome, Exception)

    def resolve(self) -> None:
        """Tell the caller, unless it has left. In the caller's loop."""
        if self.answer.done():
            return
        if isinstance(self.outcome, Exception):
            self.answer.set_exception(self.outcome)
        else:
            self.answer.set_result(self.outcome)


Jobs = Sequence[Job[Any, Any]]


class Writer:
    """Takes all that is queued and commits it at once, for one sync of the disk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[Job[Any, Any] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="dashbelle-store-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job[Any, Any]) -> None:
        """Queue one job."""
        self._queue.put(job)

    def close(self) -> None:
        """Return when all that was queued is committed."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            taken = self._take()
            more = taken[-1] is not None
            group = [job for job in taken if job is not None]
            self._commit(group)
            _answer(group)

    def _take(self) -> list[Job[Any, Any] | None]:
        """Wait for one job, then everything that has queued up behind it; None, the end, comes last."""
        taken = [self._queue.get()]
        with suppress(Empty):
            while taken[-1] is not None and len(taken) < GROUP_LIMIT:
                taken.append(self._queue.get_nowait())
        return taken

    def _commit(self, group: Jobs) -> None:
        batches = _by_batch(group)
        try:
            if len(batches) == 1:
                self._commit_alone(group)
            elif batches:
                self._commit_apart(batches)
        except Exception as error:  # noqa: BLE001 - every caller of the group is told; this thread must go on
            for job in group:
                if not job.failed:
                    job.outcome = failure(error)

    def _commit_alone(self, jobs: Jobs) -> None:
        """Jobs of one batch have the transaction for themselves; what fails undoes it, and each is tried apart."""
        try:
            with self._transaction() as connection:
                _run(connection, jobs)
        except _Undone as undone:
            if len(jobs) == 1 or undone.unavailable:
                for job in jobs:
                    job.outcome = undone.reason
            else:
                self._commit_apart([[job] for job in jobs])

    def _commit_apart(self, batches: Sequence[Jobs]) -> None:
        """Jobs of several batches share a transaction; what fails undoes its own changes only."""
        with self._transaction() as connection:
            for jobs in batches:
                _run_apart(connection, jobs)

    @contextmanager
    def _transaction(self) -> Generator[Connection, None, None]:
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._engine.begin())
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                # It broke while nobody used it: nothing was begun, so nothing is done twice.
                connection = stack.enter_context(self._engine.begin())
            yield connection


class _Undone(Exception):
    """A batch failed and none of its jobs may be called done."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason

    @property
    def unavailable(self) -> bool:
        """Whether the database itself failed. A full disk makes SQLite roll back the whole transaction."""
        return isinstance(self.reason, StoreUnavailable)


def _by_batch(group: Jobs) -> Sequence[Jobs]:
    """The jobs that one call can do, together, in the order of the first of each."""
    batches: dict[Batch[Any, Any], list[Job[Any, Any]]] = {}
    for job in group:
        batches.setdefault(job.batch, []).append(job)
    return list(batches.values())


def _run(connection: Connection, jobs: Jobs) -> None:
    """Run jobs of one batch. Raises _Undone."""
    try:
        outcomes = jobs[0].batch(connection, [job.item for job in jobs])
    except Exception as error:
        raise _Undone(outward(error)) from error
    for job, outcome in zip(jobs, outcomes, strict=True):
        job.outcome = outcome


def _run_apart(connection: Connection, jobs: Jobs) -> None:
    """The same within a savepoint; a failure is kept for the caller of the job that failed."""
    savepoint = connection.begin_nested()
    try:
        _run(connection, jobs)
    except _Undone as undone:
        if undone.unavailable:
            raise undone.reason from None
        savepoint.rollback()
        if len(jobs) == 1:
            jobs[0].outcome = undone.reason
        else:
            for job in jobs:
                _run_apart(connection, [job])
    else:
        savepoint.commit()


def _answer(group: Jobs) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Job[Any, Any]]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, jobs)


def _resolve(jobs: Jobs) -> None:
    for job in jobs:
        job.resolve()
