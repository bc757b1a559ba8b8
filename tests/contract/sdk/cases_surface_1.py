"""The 1.x surface of any release against the echo model: calls, streams, errors, every keyword."""

from __future__ import annotations

import inspect
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import dashscope  # type: ignore[import-not-found]
from dashscope import Generation
from dashscope.api_entities.http_request import HttpRequest  # type: ignore[import-not-found]
from observing import case, observed, report, shown
from questions import MESSAGES, PROMPT

HISTORY = [{"user": "first", "bot": "one"}, {"user": "second", "bot": "two"}]
TOOL = {"type": "function", "function": {"name": "clock", "description": "the time", "parameters": {}}}
KEYWORDS: dict[str, dict[str, Any]] = {
    "stream": {"stream": False},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 50},
    "max_tokens": {"max_tokens": 5},
    "max_length": {"max_length": 5},
    "seed": {"seed": 1234},
    "stop": {"stop": "世界"},
    "stop as a list": {"stop": ["世界", "x"]},
    "stop as token ids": {"stop": [[228, 189]]},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "presence_penalty": {"presence_penalty": 0.5},
    "result_format": {"result_format": "message"},
    "incremental_output": {"incremental_output": True},
    "enable_search": {"enable_search": False},
    "enable_search on": {"enable_search": True},
    "tools": {"tools": [TOOL], "result_format": "message"},
    "tool_choice": {"tool_choice": "auto"},
    "enable_thinking": {"enable_thinking": True},
    "thinking_budget": {"thinking_budget": 100},
    "n": {"n": 2, "result_format": "message"},
    "n as text": {"n": 2},
    "logprobs": {"logprobs": False},
    "logprobs on": {"logprobs": True},
    "top_logprobs": {"top_logprobs": 2},
    "search_options": {"search_options": {"forced_search": True}},
    "parallel_tool_calls": {"parallel_tool_calls": True},
    "response_format": {"response_format": {"type": "text"}},
    "response_format json": {"response_format": {"type": "json_object"}},
    "output_format": {"output_format": "model_summary_report"},
    "plugins": {"plugins": {"search": {}}},
    "plugins as text": {"plugins": "{}"},
    "workspace": {"workspace": "ws_1"},
    "headers": {"headers": {"X-Anything": "at all"}},
    "request_timeout": {"request_timeout": 60},
    "task_id": {"task_id": "0123"},
    "debug": {"debug": True},
    "customized_model_id": {"customized_model_id": "mine"},
    "unknown": {"no_such_parameter": {"a": [1]}},
}


def call(**arguments: object) -> dict[str, Any]:
    """One call that is not streamed."""
    return shown(Generation.call(**{"model": "echo", "prompt": PROMPT, **arguments}))


def stream(**arguments: object) -> list[dict[str, Any]]:
    """Every item of a streamed call."""
    items = Generation.call(**{"model": "echo", "prompt": PROMPT, **arguments}, stream=True)
    return [shown(item) for item in items]


@case
def prompt_call() -> object:
    return call()


@case
def message_call() -> object:
    return call(prompt=None, messages=MESSAGES, result_format="message")


@case
def messages_as_text() -> object:
    return call(prompt=None, messages=MESSAGES)


@case
def messages_and_prompt() -> object:
    return call(prompt="third", messages=[*MESSAGES, {"role": "assistant", "content": "hi"}])


@case
def history_and_prompt() -> object:
    return call(prompt="third", history=HISTORY)


@case
def attributes() -> object:
    """What programs read: attributes, not keys."""
    response = Generation.call(model="echo", messages=MESSAGES, result_format="message")
    (choice,) = response.output.choices
    message = choice.message
    return [response.status_code, message.role, message.content, choice.finish_reason, response.usage.output_tokens]


@case
def wrong_key() -> object:
    return call(api_key="sk-wrong")


@case
def wrong_key_streamed() -> object:
    return stream(api_key="sk-wrong")


@case
def unknown_model() -> object:
    return call(model="belle-7b")


@case
def bad_parameter_streamed() -> object:
    return stream(temperature=2.0)


@case
def base_with_slash() -> object:
    return with_base(dashscope.base_http_api_url.rstrip("/") + "/")


@case
def base_without_slash() -> object:
    return with_base(dashscope.base_http_api_url.rstrip("/"))


def with_base(base: str) -> object:
    before, dashscope.base_http_api_url = dashscope.base_http_api_url, base
    try:
        return [call(), stream()[-1]]
    finally:
        dashscope.base_http_api_url = before


@case
def data_inspection() -> object:
    os.environ["DASHSCOPE_DISABLE_DATA_INSPECTION"] = "false"
    try:
        return [HttpRequest("http://", "sk", "POST").headers["X-DashScope-DataInspection"], call()]
    finally:
        del os.environ["DASHSCOPE_DISABLE_DATA_INSPECTION"]


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
def stream_of_messages() -> object:
    return stream(prompt=None, messages=MESSAGES, result_format="message", incremental_output=True)


@case
def stream_of_two() -> object:
    return stream(prompt=None, messages=MESSAGES, result_format="message", n=2)


@case
def twenty_streams() -> object:
    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(lambda number: stream(prompt=f"{number} {PROMPT}")[-1], range(20)))


@case
def keywords() -> object:
    return {name: observed(partial(call, **arguments)) for name, arguments in KEYWORDS.items()}


@case
def signature() -> object:
    return list(inspect.signature(Generation.call).parameters)


if __name__ == "__main__":
    report()
