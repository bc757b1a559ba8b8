"""The supervisor and its process, over the real socket: death, hanging, nonsense and refusals cost only their calls."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dashbelle.engine.echo import ByteTokenizer
from dashbelle.engine.frames import Load
from dashbelle.engine.supervisor import Supervisor
from dashbelle.engine.worker import WorkerEngine
from dashbelle.errors import EngineDied, EngineFailed, EngineStalled, ModelUnavailable, SchemaRefused
from dashbelle.vocabulary import AdmittedPrompt, Stops, TokenLogprob

TOY = Path(__file__).with_name("toy_worker.py")
DIE, HANG, REFUSE, FAIL, GARBLE, SLOW, COUNT = 901, 902, 903, 904, 905, 906, 907
LOAD = Load("no-model", "no-cache", kv_cache_mib=64, slots=4, batch_tokens=64, threads=1)


def prompt(*token_ids: int, max_tokens: int = 50) -> AdmittedPrompt:
    return AdmittedPrompt(
        token_ids=token_ids,
        max_tokens=max_tokens,
        temperature=0.0,
        top_p=1.0,
        top_k=0,
        seed=0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        stops=Stops(),
    )


@asynccontextmanager
async def toy_engine(*flags: str, stall_s: float = 30.0) -> AsyncGenerator[tuple[WorkerEngine, Supervisor], None]:
    supervisor = Supervisor(LOAD, stall_s=stall_s, command=(sys.executable, str(TOY), *flags))
    supervisor.start()
    try:
        yield WorkerEngine(supervisor, ByteTokenizer(), context_tokens=1000, eos_token_ids=[0]), supervisor
    finally:
        await supervisor.close()


async def text(engine: WorkerEngine, *token_ids: int) -> str:
    return "".join([delta.text async for delta in engine.generate(prompt(*token_ids))])


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_call_waits_for_the_process_and_gets_its_answer() -> None:
    async with toy_engine() as (engine, supervisor):
        assert engine.unready() == "the engine is starting"
        assert await text(engine, *b"hello") == "hello"
        assert engine.unready() is None
        assert supervisor.pid is not None
    assert engine.unready() == "the engine is not running"


async def test_the_death_of_the_process_ends_its_calls_and_the_next_is_answered() -> None:
    async with toy_engine() as (engine, supervisor):
        assert await text(engine, *b"ok") == "ok"
        running = [asyncio.create_task(text(engine, SLOW)) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(EngineDied):
            await text(engine, DIE)
        for task in running:
            with pytest.raises(EngineDied):
                await task
        assert await text(engine, *b"again") == "again"
        assert supervisor.restarts == 1


async def test_a_killed_process_is_replaced() -> None:
    async with toy_engine() as (engine, supervisor):
        await text(engine, *b"ok")
        first = supervisor.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.pid not in (None, first) and engine.unready() is None)
        assert await text(engine, *b"ok") == "ok"


async def test_a_process_that_hangs_with_work_is_ended_and_said_to_have_stalled() -> None:
    async with toy_engine(stall_s=1.0) as (engine, _):
        await text(engine, *b"ok")
        hanging = asyncio.create_task(text(engine, HANG))
        await until(lambda: "no progress" in (engine.unready() or ""))
        with pytest.raises(EngineStalled):
            await hanging
        assert await text(engine, *b"ok") == "ok"


async def test_a_process_that_is_stopped_while_idle_is_noticed_and_replaced() -> None:
    async with toy_engine(stall_s=1.0) as (engine, supervisor):
        await text(engine, *b"ok")
        first = supervisor.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await until(lambda: supervisor.pid not in (None, first) and engine.unready() is None)
        assert await text(engine, *b"ok") == "ok"


async def test_a_refused_schema_is_told_apart_from_a_failure() -> None:
    async with toy_engine() as (engine, supervisor):
        other = asyncio.create_task(text(engine, *b"a long answer"))
        with pytest.raises(SchemaRefused):
            await anext(engine.generate(replace(prompt(*b"hi"), json_schema="")))
        assert await other == "a long answer"
        assert supervisor.restarts == 0


async def test_logprobs_come_with_their_tokens() -> None:
    async with toy_engine() as (engine, _):
        deltas = [delta async for delta in engine.generate(replace(prompt(*b"hi"), logprobs=True))]
    tokens = [token for delta in deltas for token in delta.logprobs]
    assert tokens == [TokenLogprob(b"h", -0.5), TokenLogprob(b"i", -0.5)]


async def test_a_refused_call_fails_alone_and_its_reason_goes_to_the_log() -> None:
    with capture_logs() as logs:
        async with toy_engine() as (engine, supervisor):
            other = asyncio.create_task(text(engine, *b"a long answer"))
            with pytest.raises(EngineFailed) as error:
                await text(engine, REFUSE)
            assert "temperature" not in str(error.value)
            assert await other == "a long answer"
            assert supervisor.restarts == 0
            await until(lambda: any("no such temperature" in log.get("line", "") for log in logs))


async def test_a_call_that_fails_midway_fails_alone() -> None:
    async with toy_engine() as (engine, _):
        with pytest.raises(EngineFailed):
            await text(engine, ord("a"), FAIL, ord("b"))
        assert await text(engine, *b"ok") == "ok"


async def test_nonsense_from_the_process_counts_as_its_death() -> None:
    async with toy_engine() as (engine, _):
        with pytest.raises(EngineDied):
            await text(engine, GARBLE)
        assert await text(engine, *b"ok") == "ok"


async def test_leaving_early_cancels_in_the_process() -> None:
    async with toy_engine() as (engine, _):
        generation = engine.generate(prompt(SLOW))
        await anext(generation)
        assert await text(engine, COUNT) == chr(2)  # the toy tells how many answers it computes
        await generation.aclose()
        assert await text(engine, COUNT) == chr(1)


async def test_weights_that_cannot_be_loaded_refuse_calls_at_once_without_saying_why() -> None:
    async with toy_engine("--broken") as (engine, _):
        await until(lambda: "see the log" in (engine.unready() or ""))
        with pytest.raises(ModelUnavailable) as error:
            await text(engine, *b"ok")
        assert "no such file" not in str(error.value)


async def test_calls_that_wait_for_weights_are_refused_when_these_cannot_be_loaded() -> None:
    async with toy_engine("--broken") as (engine, _):
        with pytest.raises(ModelUnavailable):
            await text(engine, *b"ok")


async def test_a_process_that_never_starts_refuses_calls_after_a_few_tries() -> None:
    async with toy_engine("--exit-at-once") as (engine, supervisor):
        await until(lambda: "does not start" in (engine.unready() or ""), 30)
        with pytest.raises(ModelUnavailable):
            await text(engine, *b"ok")
        assert supervisor.restarts >= 2


async def test_closing_ends_the_process_and_the_calls() -> None:
    async with toy_engine() as (engine, supervisor):
        await text(engine, *b"ok")
        pid = supervisor.pid
        assert pid is not None
        running = asyncio.create_task(text(engine, SLOW))
        await asyncio.sleep(0.05)
        await engine.close()
        with pytest.raises(EngineDied):
            await running
        assert not Path(f"/proc/{pid}").exists()
