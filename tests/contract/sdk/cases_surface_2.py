"""The 2.0 surface, `dashscope.Client`, against the echo model."""

from __future__ import annotations

import asyncio
from typing import Any

import dashscope  # type: ignore[import-not-found]
from observing import case, report
from questions import SENTENCE


def create(client: Any = None, **arguments: object) -> Any:  # noqa: ANN401 - the SDK's own objects
    """One call, of whatever kind."""
    client = client or dashscope.Client()
    return client.chat.completions.create(**{"model": "echo", "messages": SENTENCE, **arguments})


def shown(completion: Any) -> dict[str, Any]:  # noqa: ANN401
    """What programs read of a completion."""
    return {
        "text": completion.output_text,
        "finish": [choice.finish_reason for choice in completion.choices],
        "roles": [choice.message.role for choice in completion.choices],
        "usage": completion.usage.model_dump(),
        "request_id": completion.request_id,
    }


@case
def call() -> object:
    return shown(create())


@case
def call_with_everything() -> object:
    return shown(
        create(
            temperature=0.5,
            top_p=0.5,
            top_k=5,
            max_tokens=8,
            seed=1,
            stop=["zzz"],
            repetition_penalty=1.1,
            presence_penalty=0.1,
            enable_thinking=False,
            response_format={"type": "text"},
            parallel_tool_calls=False,
            parameters={"no_such_parameter": 1},
            workspace="ws_1",
        )
    )


@case
def two_answers() -> object:
    return shown(create(n=2))


@case
def stream() -> object:
    return shown(create(stream=True).get_final_message())


@case
def stream_of_texts() -> object:
    return list(create(stream=True).text_stream)


@case
def stream_cumulative() -> object:
    return [chunk.delta.content for chunk in create(stream=True, incremental_output=False)]


@case
def stream_usages() -> object:
    return [chunk.usage.model_dump() for chunk in create(stream=True) if chunk.usage]


@case
def openai_protocol() -> object:
    base = dashscope.base_http_api_url.replace("/api/v1", "/compatible-mode/v1")
    client = dashscope.Client(protocol="openai", base_url=base)
    whole = create(client).output_text
    return [whole, "".join(create(client, stream=True).text_stream)]


@case
def openai_protocol_with_the_native_base() -> object:
    """Its base is the environment's, which is what an unsuspecting program has."""
    return create(dashscope.Client(protocol="openai")).output_text


@case
def openai_protocol_wrong_key() -> object:
    return create(dashscope.Client(protocol="openai", api_key="sk-wrong"))


@case
def asynchronous() -> object:
    async def both() -> list[dict[str, Any]]:
        client = dashscope.AsyncClient()
        whole = await create(client)
        streamed = await create(client, stream=True)
        return [shown(whole), shown(await streamed.get_final_message())]

    return asyncio.run(both())


@case
def wrong_key() -> object:
    return create(dashscope.Client(api_key="sk-wrong"))


@case
def wrong_key_streamed() -> object:
    return create(dashscope.Client(api_key="sk-wrong"), stream=True).get_final_message()


@case
def bad_parameter() -> object:
    return create(temperature=2.0)


@case
def unknown_model() -> object:
    return create(model="belle-7b")


@case
def error_as_a_value() -> object:
    completion = create(dashscope.Client(raise_on_error=False), temperature=2.0)
    return {name: getattr(completion, name) for name in ("is_error", "status_code", "code", "message", "request_id")}


if __name__ == "__main__":
    report()
