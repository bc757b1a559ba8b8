"""SIGKILL of the whole server under load: what a client saw complete is billed once, the rest is settled as crashed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx2
from native_client import ENDLESS, LONG_STORY, NativeClient

from running_server import RunningServer, StartServer, is_alive, wait_until

SHORT_CALLERS, LONG_CALLERS = 4, 2
COMPLETE = 12


@dataclass
class History:
    """What the clients saw: complete answers by request id with their usage, and streams that they saw begin."""

    complete: dict[str, tuple[int, int]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def note(self, request_id: str, usage: dict[str, int]) -> None:
        """A client holds the end of an answer."""
        self.complete[request_id] = (usage["input_tokens"], usage["output_tokens"])


def test_a_killed_server_loses_and_doubles_nothing_that_a_client_saw_complete(start_server: StartServer) -> None:
    server = start_server()
    (worker,) = server.worker_pids()
    history = History()
    with ThreadPoolExecutor(SHORT_CALLERS + LONG_CALLERS) as pool:
        callers = [
            pool.submit(call_until_it_breaks, server, history, streaming=caller % 2 == 0)
            for caller in range(SHORT_CALLERS)
        ]
        callers += [pool.submit(stream_until_it_breaks, server, history) for _ in range(LONG_CALLERS)]
        wait_until(lambda: len(history.complete) >= COMPLETE and len(history.begun) == LONG_CALLERS, 60, "load")
        server.kill()
    assert [caller.result() for caller in callers] == [None] * len(callers)
    wait_until(lambda: not is_alive(worker), 10, "end of the orphaned engine")

    second = start_server("--model", "echo", home=server.home, key=server.key)
    rows = second.usage()
    assert set(Counter(row["request_id"] for row in rows).values()) == {1}
    by_id = {row["request_id"]: row for row in rows}
    seen = {key: (by_id[key]["input_tokens"], by_id[key]["output_tokens"]) for key in history.complete}
    assert seen == history.complete
    assert {by_id[key]["end_reason"] for key in history.complete} <= {"stop", "length"}
    assert {by_id[key]["end_reason"] for key in history.begun} == {"crashed"}
    # In doubt are only calls whose settlement came before the kill and whose end did not get through: one per caller.
    unseen = [row for key, row in by_id.items() if key not in history.complete and row["end_reason"] != "crashed"]
    assert len(unseen) <= SHORT_CALLERS
    assert NativeClient(second, model="echo").ask("Hello!").status_code == 200


def test_an_idle_engine_ends_with_its_server(start_server: StartServer) -> None:
    server = start_server()
    (worker,) = server.worker_pids()
    server.kill()
    wait_until(lambda: not is_alive(worker), 10, "end of the orphaned engine")


def test_an_idle_engine_ends_with_a_server_that_left_its_news_unread(start_server: StartServer) -> None:
    server = start_server()
    (worker,) = server.worker_pids()
    with NativeClient(server).stream(LONG_STORY, **{**ENDLESS, "max_tokens": 40}) as stream:
        next(stream)
        server.signal(signal.SIGSTOP)
        wait_until(lambda: is_idle(worker), 30, "end of the engine's work")
        server.kill()
    try:
        wait_until(lambda: not is_alive(worker), 10, "end of the orphaned engine")
    finally:
        end(worker)


def call_until_it_breaks(server: RunningServer, history: History, *, streaming: bool) -> None:
    """Short calls one after another, of two to nine tokens, until the server is gone."""
    client = NativeClient(server)
    for max_tokens in lengths():
        try:
            if streaming:
                with client.stream(LONG_STORY, max_tokens=max_tokens) as stream:
                    last = stream.last()
                    history.note(stream.request_id, last.data["usage"])
            else:
                answer = client.answer(LONG_STORY, max_tokens=max_tokens)
                history.note(answer["request_id"], answer["usage"])
        except httpx2.TransportError:
            return


def stream_until_it_breaks(server: RunningServer, history: History) -> None:
    """One stream that is still running when the server is killed."""
    try:
        with NativeClient(server).stream(LONG_STORY, **ENDLESS) as stream:
            next(stream)
            history.begun.add(stream.request_id)
            stream.last()
    except httpx2.TransportError:
        return


def end(pid: int) -> None:
    """Leave no process behind, whatever the test found."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_idle(pid: int) -> bool:
    """Whether a process computes nothing for half a second."""
    before = cpu_ticks(pid)
    time.sleep(0.5)
    return cpu_ticks(pid) == before


def cpu_ticks(pid: int) -> int:
    """What it has computed, all threads together, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def lengths() -> Iterator[int]:
    """2, 3, ... 9, 2, 3, ..."""
    return (2 + number % 8 for number in count())
