"""The SDK against echo, whose answers are known to the byte."""

from __future__ import annotations

import asyncio
from typing import Any

from observing import case, raised, report
from openai import APIError, AsyncOpenAI, OpenAI  # type: ignore[import-not-found]

ASK: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "Hi 你好 😀"}]}
USAGE = {"stream_options": {"include_usage": True}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
client = OpenAI(max_retries=0)


def failed(**arguments: object) -> dict[str, Any]:
    """The error of a chat that must fail."""
    return error_of(lambda: client.chat.completions.create(**{**ASK, **arguments}))


def error_of(work: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the SDK returns
    """The error that is raised, with the fields that OpenAI's have."""
    try:
        work()
    except APIError as error:
        return {**raised(error), "type": error.type, "param": error.param}
    return {"raised": []}


@case
def models() -> object:
    return [model.id for model in client.models.list()]


@case
def one_model() -> object:
    return client.models.retrieve("echo").model_dump()


@case
def no_such_model() -> object:
    return error_of(lambda: client.models.retrieve("gpt-5"))


@case
def chat() -> object:
    completion = client.chat.completions.create(**ASK)
    return {**completion.model_dump(), "header": completion._request_id}


@case
def chat_with_everything() -> object:
    arguments = {"temperature": 1, "top_p": 1, "seed": 1, "stop": ["😀"], "presence_penalty": 0, "frequency_penalty": 0}
    ignored = {
        "user": "ada",
        "metadata": {"a": "b"},
        "store": False,
        "logit_bias": {"5": 1},
        "parallel_tool_calls": True,
    }
    extra = {"top_k": 5, "repetition_penalty": 1.0, "enable_search": False}
    return client.chat.completions.create(**ASK, **arguments, **ignored, extra_body=extra).model_dump()


@case
def two_choices() -> object:
    return client.chat.completions.create(**ASK, n=2, max_completion_tokens=4).model_dump()


@case
def stream() -> object:
    return [chunk.model_dump() for chunk in client.chat.completions.create(**ASK, **USAGE, stream=True)]


@case
def stream_of_two() -> object:
    return [chunk.model_dump() for chunk in client.chat.completions.create(**ASK, n=2, stream=True)]


@case
def logprobs() -> object:
    return client.chat.completions.create(**ASK, logprobs=True, top_logprobs=1).model_dump()


@case
def text() -> object:
    return client.completions.create(model="echo", prompt="Human:hi\n\nAssistant:", logprobs=1).model_dump()


@case
def text_stream() -> object:
    return [chunk.model_dump() for chunk in client.completions.create(model="echo", prompt="hi", stream=True)]


@case
def wrong_key() -> object:
    return error_of(OpenAI(api_key="sk-wrong", max_retries=0).models.list)


@case
def unknown_model() -> object:
    return failed(model="gpt-5")


@case
def bad_parameter() -> object:
    return failed(temperature=2)


@case
def bad_parameter_streamed() -> object:
    return failed(temperature=2, stream=True)


@case
def too_many_top_logprobs() -> object:
    return failed(logprobs=True, top_logprobs=5)


@case
def tools() -> object:
    return failed(tools=[TOOL])


@case
def a_schema_for_echo() -> object:
    return failed(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "null"}}})


@case
def embeddings() -> object:
    return error_of(lambda: client.embeddings.create(model="echo", input="hi"))


@case
def asynchronous() -> object:
    async def ask() -> list[str]:
        async with AsyncOpenAI() as other:
            completion = await other.chat.completions.create(**ASK)
            chunks = [chunk async for chunk in await other.chat.completions.create(**ASK, stream=True)]
            return [completion.choices[0].message.content, "".join(chunk.choices[0].delta.content for chunk in chunks)]

    return asyncio.run(ask())


@case
def asynchronous_at_once() -> object:
    async def ask() -> list[str]:
        async with AsyncOpenAI() as other:
            completions = await asyncio.gather(*(other.chat.completions.create(**ASK) for _ in range(12)))
            return [completion.choices[0].message.content for completion in completions]

    return asyncio.run(ask())


@case
def asynchronous_error() -> object:
    async def ask() -> dict[str, Any]:
        async with AsyncOpenAI(api_key="sk-wrong", max_retries=0) as other:
            try:
                await other.chat.completions.create(**ASK)
            except APIError as error:
                return raised(error)
            return {}

    return asyncio.run(ask())


if __name__ == "__main__":
    report()
