"""Figure `first-token`: how long a caller of a running server waits for the first token of a short prompt."""

from __future__ import annotations

import uvloop

from benchmarks.client import Connection, generation
from benchmarks.figures import Figure
from benchmarks.machine import scratch
from benchmarks.processes import Server

CALLS = 50
WARM_UP = 3


def measure() -> list[Figure]:
    """One call after the other, each with a question of its own, so that no cached prefix answers it."""
    with scratch() as folder, Server.serve(folder / "home", "--port", "0") as server:
        port, key = server.await_banner()
        times_ms = uvloop.run(_ask(port, key))
    return [Figure("first-token: over HTTP", "ms", tuple(times_ms), target=150)]


async def _ask(port: int, key: str) -> list[float]:
    connection = await Connection.open(port)
    times_ms = []
    for number in range(WARM_UP + CALLS):
        prompt = (
            f"Human:{number + 2} people share {number * 7 + 30} apples. How many does each of them get?\n\nAssistant:"
        )
        reply = await connection.ask(generation(key, "belle-llama-13b-2m-v1", prompt, events=True, max_tokens=4))
        times_ms.append(reply.first_event_s * 1000)
    connection.close()
    return times_ms[WARM_UP:]
