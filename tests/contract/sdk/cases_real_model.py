"""The 1.x surface against a real model, asked by BELLE's name."""

from __future__ import annotations

from typing import Any

from dashscope import Generation  # type: ignore[import-not-found]
from observing import case, report, shown

CALL = {
    "model": "belle-llama-13b-2m-v1",
    "prompt": "Human:What is the capital of France?\n\nAssistant:",
    "seed": 42,
    "temperature": 0.7,
    "max_tokens": 30,
}


def stream(**arguments: object) -> list[dict[str, Any]]:
    """Every item of a streamed call."""
    return [shown(item) for item in Generation.call(**CALL, **arguments, stream=True)]


@case
def whole() -> object:
    return shown(Generation.call(**CALL))


@case
def stream_by_default() -> object:
    return stream()


@case
def stream_incremental() -> object:
    return stream(incremental_output=True)


@case
def stream_cumulative() -> object:
    return stream(incremental_output=False)


@case
def messages() -> object:
    asked = {**CALL, "prompt": None, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    return shown(Generation.call(**asked, result_format="message"))


if __name__ == "__main__":
    report()
