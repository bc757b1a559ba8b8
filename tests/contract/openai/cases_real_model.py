"""The SDK against a real model: structured output, probabilities, streams."""

from __future__ import annotations

import asyncio
import math
from enum import Enum
from typing import Any, Literal

from observing import case, report
from openai import AsyncOpenAI, OpenAI  # type: ignore[import-not-found]
from pydantic import BaseModel, Field  # type: ignore[import-not-found,unused-ignore]

MODEL = "smollm2-135m-instruct"
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 24,
    "seed": 5,
}
DESCRIBE: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Describe a person as JSON."}],
    "max_tokens": 400,
}
client = OpenAI()


class Mood(Enum):
    """Of a person."""

    HAPPY = "happy"
    SAD = "sad"


class Address(BaseModel):  # type: ignore[misc,unused-ignore] # pydantic is in the SDK's environment alone
    """Where a person lives."""

    city: str
    country: Literal["France", "Japan", "Peru"]


class Person(BaseModel):  # type: ignore[misc,unused-ignore]
    """What the model must say."""

    name: str = Field(description="The first name", min_length=1, max_length=40)
    age: int = Field(ge=0, le=120)
    mood: Mood
    address: Address
    nickname: str | None = None
    languages: list[Literal["French", "Japanese", "Spanish"]] = Field(max_length=3)


@case
def parsed() -> object:
    answers = [client.chat.completions.parse(**DESCRIBE, response_format=Person, seed=seed) for seed in (1, 2, 3)]
    return [answer.choices[0].message.parsed.model_dump(mode="json") for answer in answers]


@case
def parsed_stream() -> object:
    with client.chat.completions.stream(**DESCRIBE, response_format=Person, seed=4) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0].message.parsed
    return {"kinds": sorted(kinds), "parsed": final.model_dump(mode="json")}


@case
def parsed_asynchronously() -> object:
    async def ask() -> object:
        async with AsyncOpenAI() as other:
            answer = await other.chat.completions.parse(**DESCRIBE, response_format=Person, seed=1)
            return answer.choices[0].message.parsed.model_dump(mode="json")

    return asyncio.run(ask())


@case
def json_object() -> object:
    answer = client.chat.completions.create(**DESCRIBE, response_format={"type": "json_object"}, seed=1)
    return {"finish": answer.choices[0].finish_reason, "text": answer.choices[0].message.content}


@case
def impossible_schema() -> object:
    schema = {"type": "array", "prefixItems": [{"type": "null"}], "items": False, "minItems": 2}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return client.chat.completions.create(**DESCRIBE, response_format=form).model_dump()


@case
def chat() -> object:
    return client.chat.completions.create(**ASK).model_dump()


@case
def stream() -> object:
    chunks = list(client.chat.completions.create(**ASK, stream=True))
    return {"text": "".join(chunk.choices[0].delta.content for chunk in chunks), "chunks": len(chunks)}


@case
def logprobs() -> object:
    choice = client.chat.completions.create(**ASK, logprobs=True).choices[0]
    told = choice.logprobs.content
    return {
        "text": choice.message.content,
        "tokens": "".join(entry.token for entry in told),
        "bytes": bytes(byte for entry in told for byte in entry.bytes).decode(),
        "probabilities": [math.exp(entry.logprob) for entry in told],
    }


@case
def streamed_logprobs() -> object:
    chunks = list(client.chat.completions.create(**ASK, logprobs=True, stream=True))
    told = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    text = "".join(chunk.choices[0].delta.content for chunk in chunks)
    return {"text": text, "tokens": "".join(entry.token for entry in told)}


@case
def by_belles_name() -> object:
    raw = client.chat.completions.with_raw_response.create(**{**ASK, "model": "belle-llama-13b-2m-v1"})
    return {"served_by": raw.headers["x-dashbelle-served-by"], "model": raw.parse().model}


if __name__ == "__main__":
    report()
