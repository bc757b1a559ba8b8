"""Figure `start`: from `dashbelle serve` to ready, with an empty home and with a used one."""

from __future__ import annotations

from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.machine import scratch
from benchmarks.processes import Server, free_port

RUNS = 5


def measure() -> list[Figure]:
    """Both kinds in turn, so that a disturbance of the machine meets both."""
    first, later = [], []
    for _ in range(RUNS):
        with scratch() as folder:
            first.append(_start_s(folder / "home"))
            later.append(_start_s(folder / "home"))
    return [
        Figure("start: first, empty home", "s", tuple(first), target=5),
        Figure("start: later", "s", tuple(later), target=3),
    ]


def _start_s(home: Path) -> float:
    port = free_port()
    with Server.serve(home, "--port", str(port)) as server:
        return server.await_ready(port)
