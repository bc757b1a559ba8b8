"""Figure `overhead`: what our layers add to the bare engine, and which of them adds what."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import cycle, islice, permutations
from pathlib import Path
from time import perf_counter
from typing import Literal

import uvloop

from benchmarks import layers
from benchmarks.client import Connection, generation
from benchmarks.figures import Figure
from benchmarks.machine import scratch
from benchmarks.service import Hosted, hosted
from dashbelle import settings
from dashbelle.engine.base import Engine
from dashbelle.models.presets import ECHO, STAND_IN
from dashbelle.pipeline import admit
from dashbelle.vocabulary import AdmittedPrompt, Call, Caller, Sampling, TextPrompt

PROMPT = "Human:Name the capital of France.\n\nAssistant:"
TARGET_MS = 1.0
WARM_UP = 5
ROUNDS = {(STAND_IN, 1): 200, (STAND_IN, 16): 60, (ECHO, 1): 300}
"""Rounds by model and max_tokens. Echo computes nothing, so that the layers are seen without an engine's scatter."""

Way = Literal["engine", "json", "events"]


@dataclass
class Times:
    """Milliseconds of the rounds so far, one per round; a place in one list belongs to the same place in the others."""

    engine_first: list[float]
    engine_whole: list[float]
    json_whole: list[float]
    events_first: list[float]


def measure() -> list[Figure]:
    """One engine process answers all calls: directly, as JSON and as events, in every order in turn."""
    with scratch() as folder:
        return uvloop.run(_measure(folder))


async def _measure(folder: Path) -> list[Figure]:
    figures: list[Figure] = []
    chosen = settings.load({"home": folder / "home", "models": (STAND_IN, ECHO)}).settings
    async with hosted(chosen) as server:
        for (model, max_tokens), rounds in ROUNDS.items():
            times = await _rounds(server, model, max_tokens, rounds)
            figures += comparison(f"overhead, {model}, max_tokens {max_tokens}", times)
        engine, prompt = await _bare(server, STAND_IN, 1)
        figures += await layers.measure(server, PROMPT, lambda: _drive(engine, prompt), folder)
    return figures


def comparison(name: str, times: Times) -> list[Figure]:
    """The ways side by side, and what HTTP added in each round."""
    return [
        Figure(f"{name}: engine, first delta", "ms", tuple(times.engine_first)),
        Figure(f"{name}: HTTP, first event", "ms", tuple(times.events_first)),
        Figure(f"{name}: added to the first", "ms", _added(times.events_first, times.engine_first), TARGET_MS),
        Figure(f"{name}: engine, whole", "ms", tuple(times.engine_whole)),
        Figure(f"{name}: HTTP, JSON", "ms", tuple(times.json_whole)),
        Figure(f"{name}: added to the whole", "ms", _added(times.json_whole, times.engine_whole), TARGET_MS),
    ]


def _added(ours: Sequence[float], bare: Sequence[float]) -> tuple[float, ...]:
    """The difference in each round, so that what disturbs a round disturbs both sides of it."""
    return tuple(mine - other for mine, other in zip(ours, bare, strict=True))


async def _rounds(server: Hosted, model: str, max_tokens: int, rounds: int) -> Times:
    engine, prompt = await _bare(server, model, max_tokens)
    requests = {
        events: generation(server.key, model, PROMPT, events=events, top_k=1, max_tokens=max_tokens)
        for events in (False, True)
    }
    connection = await Connection.open(server.port)
    times = Times([], [], [], [])
    orders: list[tuple[Way, ...]] = list(permutations(("engine", "json", "events")))
    for order in islice(cycle(orders), WARM_UP + rounds):
        for way in order:
            if way == "engine":
                first_s, whole_s = await _drive(engine, prompt)
                times.engine_first.append(first_s * 1000)
                times.engine_whole.append(whole_s * 1000)
            elif way == "json":
                times.json_whole.append((await connection.ask(requests[False])).total_s * 1000)
            else:
                times.events_first.append((await connection.ask(requests[True])).first_event_s * 1000)
    connection.close()
    return Times(
        times.engine_first[WARM_UP:],
        times.engine_whole[WARM_UP:],
        times.json_whole[WARM_UP:],
        times.events_first[WARM_UP:],
    )


async def _bare(server: Hosted, model: str, max_tokens: int) -> tuple[Engine, AdmittedPrompt]:
    """A model's engine, and the prompt as the pipeline would hand it over."""
    served = server.service.catalog.find(model)
    call = Call("bench", Caller(0, "bench"), model, TextPrompt(PROMPT), Sampling(top_k=1, max_tokens=max_tokens))
    (prompt,) = await admit(served, call)
    return served.engine, prompt


async def _drive(engine: Engine, prompt: AdmittedPrompt) -> tuple[float, float]:
    """Seconds until the first delta that would be an event, and until the last."""
    start, first = perf_counter(), 0.0
    async with aclosing(engine.generate(prompt)) as deltas:
        async for delta in deltas:
            if not first and (delta.text or delta.finish):
                first = perf_counter()
    return first - start, perf_counter() - start
