"""What a model cannot do is refused before anything runs; what an engine tells of its tokens reaches the caller."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest
from test_pipeline import House, a_call

from dashbelle.engine.catalog import Served
from dashbelle.engine.echo import EchoEngine
from dashbelle.errors import InvalidParameter, SchemaRefused
from dashbelle.models.templates import BelleTemplate
from dashbelle.vocabulary import AdmittedPrompt, ChatPrompt, Delta, EndReason, Message, Sampling, Stops, TokenLogprob

UNDER_A_SCHEMA = Sampling(json_schema="{}")
WITH_TOOLS = replace(a_call(), prompt=ChatPrompt((Message("user", "hi"),), uses_tools=True))


class ObedientEngine(EchoEngine):
    """Takes schemas and refuses each of them."""

    follows_schemas = True

    async def generate(self, prompt: AdmittedPrompt) -> AsyncGenerator[Delta, None]:
        if prompt.json_schema is not None:
            raise SchemaRefused
        yield Delta("hi", 2, "stop")


class SpillingEngine(EchoEngine):
    """Is done before anybody asks."""

    async def generate(self, prompt: AdmittedPrompt) -> AsyncGenerator[Delta, None]:
        yield Delta("a", 1, logprobs=(TokenLogprob(b"a", -1.0),))
        yield Delta("b", 1, "stop", logprobs=(TokenLogprob(b"b", -2.0),))


class HandyTemplate(BelleTemplate):
    """Takes tools."""

    takes_tools = True


async def test_a_schema_is_refused_by_an_engine_that_follows_none() -> None:
    house = House(EchoEngine())
    with pytest.raises(InvalidParameter) as caught:
        await house.ask(sampling=UNDER_A_SCHEMA)
    assert caught.value.message == "This model does not support response_format of type 'json_object' or 'json_schema'."
    assert house.ledger.reservations == []


async def test_a_schema_that_the_engine_refuses_is_the_callers_error_and_is_written_down() -> None:
    house = House(ObedientEngine())
    with pytest.raises(SchemaRefused) as caught:
        await house.ask(sampling=UNDER_A_SCHEMA)
    assert (caught.value.status, caught.value.code) == (400, "InvalidParameter")
    assert house.ends == [(EndReason.ERROR, 5, 0)]


async def test_tools_are_refused_under_a_template_without_them() -> None:
    house = House(EchoEngine())
    with pytest.raises(InvalidParameter, match=r"^The tool call is not supported\.$"):
        async with house.pipeline.open(WITH_TOOLS):
            pass
    assert house.ledger.reservations == []


async def test_tools_pass_under_a_template_that_takes_them() -> None:
    house = House(EchoEngine())
    served = house.catalog.find("echo")
    house.catalog.models = {"echo": Served("echo", served.engine, HandyTemplate(stops=Stops()), served.defaults)}
    async with house.pipeline.open(WITH_TOOLS) as stream:
        assert "".join([delta.text async for delta in stream]) == "Human:hi\n\nAssistant:"


async def test_the_tokens_of_deltas_that_nobody_fetched_are_kept_in_order() -> None:
    deltas = await House(SpillingEngine()).ask()
    told = [token for delta in deltas for token in delta.logprobs]
    assert told == [TokenLogprob(b"a", -1.0), TokenLogprob(b"b", -2.0)]
    assert "".join(delta.text for delta in deltas) == "ab"


async def test_echo_is_certain_of_each_of_its_bytes() -> None:
    deltas = await House(EchoEngine()).ask("é!", Sampling(logprobs=True))
    told = [token for delta in deltas for token in delta.logprobs]
    assert told == [TokenLogprob(bytes((byte,)), 0.0) for byte in "é!".encode()]
