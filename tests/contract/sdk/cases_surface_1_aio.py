"""The asynchronous half of the 1.x surface, in releases that have it, against the echo model."""

from __future__ import annotations

import asyncio
from typing import Any

from dashscope import AioGeneration  # type: ignore[import-not-found]
from observing import case, report, shown
from questions import MESSAGES, PROMPT


async def call(**arguments: object) -> dict[str, Any]:
    """One call that is not streamed."""
    return shown(await AioGeneration.call(**{"model": "echo", "prompt": PROMPT, **arguments}))


async def stream(**arguments: object) -> list[dict[str, Any]]:
    """Every item of a streamed call."""
    items = await AioGeneration.call(**{"model": "echo", "prompt": PROMPT, **arguments}, stream=True)
    return [shown(item) async for item in items]


@case
def prompt_call() -> object:
    return asyncio.run(call())


@case
def message_call() -> object:
    return asyncio.run(call(prompt=None, messages=MESSAGES, result_format="message"))


@case
def wrong_key() -> object:
    return asyncio.run(call(api_key="sk-wrong"))


@case
def bad_parameter_streamed() -> object:
    return asyncio.run(stream(temperature=2.0))


@case
def stream_by_default() -> object:
    return asyncio.run(stream())


@case
def stream_incremental() -> object:
    return asyncio.run(stream(incremental_output=True))


@case
def stream_cumulative() -> object:
    return asyncio.run(stream(incremental_output=False))


@case
def twenty_streams() -> object:
    async def all_together() -> list[dict[str, Any]]:
        streams = await asyncio.gather(*(stream(prompt=f"{number} {PROMPT}") for number in range(20)))
        return [items[-1] for items in streams]

    return asyncio.run(all_together())


if __name__ == "__main__":
    report()
