"""The 1.x surface of any release over WebSocket, against the echo model."""

from __future__ import annotations

import logging
from typing import Any

import dashscope  # type: ignore[import-not-found]
from dashscope import Generation
from dashscope.api_entities.websocket_request import WebSocketRequest  # type: ignore[import-not-found]
from observing import case, report, shown
from questions import MESSAGES, PROMPT

logging.disable()  # the SDK logs each failure with a trace

ARGUMENTS = {"model": "echo", "prompt": PROMPT, "api_protocol": "websocket"}
sent_ids: list[str] = []
build_up_message = WebSocketRequest._build_up_message
"""Every frame is made by it, and nothing else tells the task_id that was sent."""


def noting_build_up_message(self: object, headers: dict[str, str], payload: object) -> object:
    sent_ids.append(headers["task_id"])
    return build_up_message(self, headers, payload)


WebSocketRequest._build_up_message = noting_build_up_message


def call(**arguments: object) -> dict[str, Any]:
    """One call that is not streamed, and the task_id that was sent."""
    response = shown(Generation.call(**{**ARGUMENTS, **arguments}))
    return {"sent_id": sent_ids[-1] if sent_ids else None, **response}


def stream(**arguments: object) -> list[dict[str, Any]]:
    """Every item of a streamed call, each with the task_id that was sent."""
    items = [shown(item) for item in Generation.call(**{**ARGUMENTS, **arguments}, stream=True)]
    return [{"sent_id": sent_ids[-1], **item} for item in items]


@case
def whole() -> object:
    return call()


@case
def whole_message() -> object:
    return call(prompt=None, messages=MESSAGES, result_format="message")


@case
def with_slash() -> object:
    before = dashscope.base_websocket_api_url
    dashscope.base_websocket_api_url = before + "/"
    try:
        return call()
    finally:
        dashscope.base_websocket_api_url = before


@case
def streamed() -> object:
    return stream()


@case
def streamed_incremental() -> object:
    return stream(incremental_output=True)


@case
def unknown_model() -> object:
    return call(model="belle-7b")


@case
def bad_parameter_streamed() -> object:
    return stream(temperature=2.0)


@case
def wrong_key() -> object:
    return call(api_key="sk-wrong")


if __name__ == "__main__":
    report()
