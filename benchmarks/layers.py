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
SYNC_BYTES = 4096

Work = Callable[[], Awaitable[object]]


async def measure(server: Hosted, prompt: str, folder: Path) -> list[Figure]:
    """Milliseconds of each layer, one use after the other, in the event loop of the service."""
    pepper = os.urandom(32)
    async with Store.open(f"sqlite:///{folder / 'layers.db'}") as store:
        clock = count()
        keys, ledger = Keys(store, pepper), Ledger(store)
        forgetful = Keys(store, pepper, clock=lambda: float(next(clock)))  # each call comes a second after the last
        secret = await keys.create("bench")
        works: dict[str, Work] = {
            "ledger, reserve": _reserving(ledger),
            "ledger, reserve + settle": _settling(ledger),
            "auth, key remembered": lambda: keys.identify(secret),
            "auth, key looked up": lambda: forgetful.identify(secret),
            "render + tokenize + fit": _admitting(server, prompt),
            "parse JSON": _parsing(generation_body(STAND_IN, prompt, top_k=1, max_tokens=16)),
            "/healthz over HTTP": await _asking(server.port, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
            "client and loopback": await _asking_nobody(generation(secret, STAND_IN, prompt, events=False)),
            f"write {SYNC_BYTES // 1024} KiB and sync the disk": _syncing(folder / "sync"),
        }
        return [Figure(f"layer: {name}", "ms", tuple(await _ms(work))) for name, work in works.items()]


async def _ms(work: Work) -> list[float]:
    times_ms = []
    for _ in range(TIMES):
        start = perf_counter()
        await work()
        times_ms.append((perf_counter() - start) * 1000)
    return times_ms


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
