"""The layers between a call's bytes and its engine, each alone: the breakdown behind the figure `overhead`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from time import perf_counter

from benchmarks.client import Connection, generation, generation_body
from benchmarks.figures import Figure
from benchmarks.service import Hosted
from benchmarks.settlements import lines
from dashbelle.admission.keys import Keys
from dashbelle.metering.ledger import Ledger
from dashbelle.models.presets import STAND_IN
from dashbelle.pipeline import admit
from dashbelle.store import Store
from dashbelle.vocabulary import Call, Caller, Sampling, TextPrompt
from dashbelle.wire.bodies import parse_generation
from dashbelle.wire.json_text import decode

TIMES = 300
TIMES_AFTER_STEP = 100
SYNC_BYTES = 4096

Work = Callable[[], Awaitable[object]]


async def measure(server: Hosted, prompt: str, step: Work, folder: Path) -> list[Figure]:
    """Milliseconds of each layer, one use after the other, in the event loop of the service.

    `step` has the engine compute a token. It takes milliseconds and reads all weights, and the CPU is cold after it:
    what a layer costs in a real call is what it costs then.
    """
    async with Store.open(f"sqlite:///{folder / 'layers.db'}") as store:
        works = await _works(server, store, prompt, folder)
        warm = {name: await _ms(work, TIMES) for name, work in works.items()}
        cold = {name: await _ms(work, TIMES_AFTER_STEP, before=step) for name, work in works.items()}
    return [
        *(Figure(f"layer, warm: {name}", "ms", times_ms) for name, times_ms in warm.items()),
        *(Figure(f"layer, after a step: {name}", "ms", times_ms) for name, times_ms in cold.items()),
    ]


async def _works(server: Hosted, store: Store, prompt: str, folder: Path) -> dict[str, Work]:
    clock = count()
    pepper = os.urandom(32)
    keys, ledger = Keys(store, pepper), Ledger(store)
    forgetful = Keys(store, pepper, clock=lambda: float(next(clock)))  # each call comes a second after the last
    secret = await keys.create("bench")
    return {
        "client and loopback": await _asking_nobody(generation(secret, STAND_IN, prompt, events=False)),
        "/healthz over HTTP": await _asking(server.port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
        "auth, key remembered": lambda: keys.identify(secret),
        "auth, key looked up": lambda: forgetful.identify(secret),
        "parse JSON": _parsing(generation_body(STAND_IN, prompt, top_k=1, max_tokens=16)),
        "render + tokenize + fit": _admitting(server, prompt),
        "ledger, reserve": _reserving(ledger),
        "ledger, reserve + settle": _settling(ledger),
        f"write {SYNC_BYTES // 1024} KiB and sync the disk": _syncing(folder / "sync"),
    }


async def _ms(work: Work, times: int, before: Work | None = None) -> tuple[float, ...]:
    times_ms = []
    for _ in range(times):
        if before is not None:
            await before()
        start = perf_counter()
        await work()
        times_ms.append((perf_counter() - start) * 1000)
    return tuple(times_ms)


def _reserving(ledger: Ledger) -> Work:
    async def work() -> None:
        await ledger.reserve(lines()[0])

    return work


def _settling(ledger: Ledger) -> Work:
    async def work() -> None:
        first, last = lines()
        await ledger.reserve(first)
        await ledger.settle(last)

    return work


def _admitting(server: Hosted, prompt: str) -> Work:
    served = server.service.catalog.find(STAND_IN)
    call = Call("bench", Caller(0, "bench"), STAND_IN, TextPrompt(prompt), Sampling(top_k=1, max_tokens=16))
    return lambda: admit(served, call)


def _parsing(body: bytes) -> Work:
    async def work() -> None:
        parse_generation(decode(body))

    return work


async def _asking(port: int, request: bytes) -> Work:
    connection = await Connection.open(port)
    return lambda: connection.ask(request)


async def _asking_nobody(request: bytes) -> Work:
    """The same client against a server that answers anything with the same bytes."""
    server = await asyncio.get_running_loop().create_server(_Canned, "127.0.0.1", 0)
    return await _asking(server.sockets[0].getsockname()[1], request)


class _Canned(asyncio.Protocol):
    """Answers whatever arrives."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as TCP makes it
        self._transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - the name is asyncio's
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


def _syncing(path: Path) -> Work:
    """What one commit of a small transaction costs at least, in the event loop's own thread."""
    file = path.open("wb", buffering=0)

    async def work() -> None:
        file.write(bytes(SYNC_BYTES))
        os.fsync(file.fileno())

    return work
