"""The gateway of the figure `frame-cost`: run as `python -m benchmarks.paced_echo`; echo speaks at a fixed pace."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace

import uvloop

from benchmarks.service import hosted
from dashbelle import settings
from dashbelle.cli.serve import greeting
from dashbelle.engine.echo import EchoEngine
from dashbelle.models.presets import ECHO

TOKEN_S = 0.02
SLOTS = 1024


async def _serve() -> None:
    stop = asyncio.Event()
    async with hosted(settings.load({"models": (ECHO,), "slots": SLOTS}).settings) as server:
        # The command line has no pace for echo: the engine is exchanged before the first call.
        catalog = server.service.catalog
        catalog.models = {ECHO: replace(catalog.models[ECHO], engine=EchoEngine(token_s=TOKEN_S))}
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
        print(greeting(server.service, f"http://127.0.0.1:{server.port}"), flush=True)
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(_serve())
