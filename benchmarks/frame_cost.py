"""Figure `frame-cost`: the gateway's CPU time per event of a stream, and how late events come, under paced load."""

from __future__ import annotations

import asyncio
import gc
import sys
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import uvloop

from benchmarks.client import Connection, generation
from benchmarks.figures import Figure
from benchmarks.machine import scratch
from benchmarks.paced_echo import TOKEN_S
from benchmarks.processes import Server, cpu_s
from benchmarks.replies import Reply

STREAMS = (50, 400)
TOKENS = 500
"""Of each stream: 10 s, longer than it takes until all run, and the window after that."""
SPREAD_S = 1.0
SETTLE_S = 0.5
WINDOW_S = 4.0
GOLDEN = 0.618034
"""Multiples of it spread evenly between 0 and 1, so that the streams do not speak at the same moments."""


@dataclass(frozen=True)
class Load:
    """What one run has shown, in a window in which all streams ran."""

    cpu_s: float
    elapsed_s: float
    events: int
    added_gaps_ms: list[float]
    """By how much each event came later than the pace after the one before it."""
    lost: int
    """Events of the whole streams that were numbered but did not come."""
    merged: int
    """Tokens of the whole streams that came together with another one, because the gateway was behind."""

    @property
    def event_us(self) -> float:
        """The server's CPU time per event, in microseconds."""
        return self.cpu_s / self.events * 1e6


def measure() -> list[Figure]:
    """The gateway in a process of its own, the streams in this one; then a bare sender of the same bytes instead."""
    gateway, bare = _run("benchmarks.paced_echo"), _run("benchmarks.bare_events")
    loads = zip(STREAMS, gateway, bare, strict=True)
    return [figure for streams, ours, floor in loads for figure in _figures(streams, ours, floor)]


def _run(module: str) -> list[Load]:
    with scratch() as folder, Server(folder / "home", [sys.executable, "-m", module]) as server:
        port, key = server.await_banner()
        return [uvloop.run(_load(server.pid, port, key, streams)) for streams in STREAMS]


def _figures(streams: int, load: Load, bare: Load) -> list[Figure]:
    name = f"frame-cost, {streams} streams"
    return [
        Figure(f"{name}: CPU per event", "us", (load.event_us,), 25, load.events),
        Figure(f"{name}: of that, a bare sender's", "us", (bare.event_us,), samples=bare.events),
        Figure.of_percentile(f"{name}: p99 of added gap", "ms", load.added_gaps_ms, 99, 5),
        Figure(f"{name}: events per second", "1/s", (load.events / load.elapsed_s,)),
        Figure(f"{name}: events lost", "", (load.lost,), 0, streams * TOKENS),
        Figure(f"{name}: tokens merged", "", (load.merged,), samples=streams * TOKENS),
    ]


async def _load(pid: int, port: int, key: str, streams: int) -> Load:
    request = generation(key, "echo", "x" * (TOKENS + 1), events=True, max_tokens=TOKENS, incremental_output=True)
    connections = [await Connection.open(port) for _ in range(streams)]
    gc.collect()
    gc.disable()  # a pause here would look like a late event
    try:
        async with asyncio.TaskGroup() as group:
            replies = [
                group.create_task(_stream(connection, request, number * GOLDEN % 1 * SPREAD_S))
                for number, connection in enumerate(connections)
            ]
            while not all(connection.reply.event_times for connection in connections):  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.05)
            await asyncio.sleep(SETTLE_S)
            start, cpu_before = perf_counter(), cpu_s(pid)
            await asyncio.sleep(WINDOW_S)
            end, cpu_after = perf_counter(), cpu_s(pid)
    finally:
        gc.enable()
    for connection in connections:
        connection.close()
    return summary([task.result() for task in replies], start, end, cpu_after - cpu_before)


async def _stream(connection: Connection, request: bytes, delay_s: float) -> Reply:
    await asyncio.sleep(delay_s)
    return await connection.ask(request)


def summary(replies: list[Reply], start: float, end: float, used_s: float) -> Load:
    """The whole streams as seen between `start` and `end`. Raises ValueError if one ended before the window did."""
    if min(reply.ended_at for reply in replies) < end:
        raise ValueError("a stream ended inside the window: the machine is too busy to measure this")
    times = [[time for time in reply.event_times if start <= time < end] for reply in replies]
    gaps_s = [later - earlier for stream in times for earlier, later in pairwise(stream)]
    return Load(
        cpu_s=used_s,
        elapsed_s=end - start,
        events=sum(map(len, times)),
        added_gaps_ms=[(gap - TOKEN_S) * 1000 for gap in gaps_s],
        lost=sum(reply.events_lost for reply in replies),
        merged=sum(reply.output_tokens - len(reply.event_times) for reply in replies),
    )
