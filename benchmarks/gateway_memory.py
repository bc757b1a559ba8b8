"""Figure `gateway-memory`: what the gateway's own process holds, without any engine."""

from __future__ import annotations

import asyncio

from benchmarks.client import Connection, generation
from benchmarks.figures import Figure
from benchmarks.machine import scratch
from benchmarks.processes import Server, memory_mb

CALLS = 200


def measure() -> list[Figure]:
    """After 200 calls, half of them streamed: what is imported and allocated only on use is in."""
    with scratch() as folder, Server.serve(folder / "home", "--port", "0", "--model", "echo") as server:
        port, key = server.await_banner()
        asyncio.run(_ask(port, key))
        rss, pss = memory_mb(server.pid)
    return [
        Figure("gateway-memory: RSS", "MB", (rss,), target=120),
        Figure("gateway-memory: PSS", "MB", (pss,)),
    ]


async def _ask(port: int, key: str) -> None:
    connection = await Connection.open(port)
    for number in range(CALLS):
        await connection.ask(generation(key, "echo", "Say this again.", events=number % 2 == 0))
    connection.close()
