"""What each surface of a release shows when the engine dies in the middle of a stream; its argument is the server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dashscope  # type: ignore[import-not-found]
from dashscope import Generation
from observing import case, raised, report, shown

CALL = {
    "model": "belle-llama-13b-2m-v1",
    "messages": [{"role": "user", "content": "Write a very long story about a lighthouse, with many chapters."}],
    "top_k": 1,
    "repetition_penalty": 1.0,
    "max_tokens": 3000,
}


def kill_engine() -> None:
    """End the server's engine process, once there is one."""
    server = int(sys.argv[1])
    while not (pids := Path(f"/proc/{server}/task/{server}/children").read_text().split()):
        time.sleep(0.05)
    os.kill(int(pids[0]), signal.SIGKILL)


def taken(items: Iterable[Any]) -> list[Any]:
    """Every item; the engine dies behind the first."""
    seen: list[Any] = []
    for item in items:
        if not seen:
            kill_engine()
        seen.append(item)
    return seen


@case
def surface_1() -> object:
    return [shown(item) for item in taken(Generation.call(**CALL, stream=True))]


if hasattr(dashscope, "AioGeneration"):

    @case
    def surface_1_aio() -> object:
        async def all_items() -> list[dict[str, Any]]:
            seen: list[dict[str, Any]] = []
            async for item in await dashscope.AioGeneration.call(**CALL, stream=True):
                if not seen:
                    kill_engine()
                seen.append(shown(item))
            return seen

        return asyncio.run(all_items())


if hasattr(dashscope, "Client"):

    @case
    def surface_2() -> object:
        stream = dashscope.Client().chat.completions.create(**CALL, stream=True)
        seen: list[str] = []
        try:
            for chunk in stream:
                if not seen:
                    kill_engine()
                seen.append(chunk.delta.content)
        except dashscope.v2.errors.DashScopeError as error:
            return {"seen": len(seen), **raised(error)}
        return {"seen": len(seen)}


if __name__ == "__main__":
    report()
