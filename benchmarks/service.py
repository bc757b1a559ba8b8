"""The whole service inside the measuring process, as `dashbelle serve` runs it, with its parts in reach."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn

from dashbelle import logs
from dashbelle.app import Service, running

# A copy of the server's configuration would be measured instead of it as soon as the two differ.
from dashbelle.cli.serve import BACKLOG
from dashbelle.cli.serve import _config as server_config
from dashbelle.settings import Settings


@dataclass(frozen=True)
class Hosted:
    """A service that answers on `port` of this machine. `key` is its first one."""

    service: Service
    port: int
    key: str


@asynccontextmanager
async def hosted(settings: Settings) -> AsyncGenerator[Hosted, None]:
    """Run it inside the block, with logs as they are by default, in a file beside its home. Needs an empty home."""
    with settings.home.with_suffix(".err").open("w", encoding="utf-8") as log:
        with contextlib.redirect_stderr(log):
            logs.configure("json", "info")
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        async with running(settings) as service:
            server = uvicorn.Server(server_config(service, settings))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                while not server.started or service.catalog.unready():  # noqa: ASYNC110 - neither has an event for it
                    await asyncio.sleep(0.02)
                yield Hosted(service, listener.getsockname()[1], service.first_key or "")
            finally:
                server.should_exit = True
                await serving
