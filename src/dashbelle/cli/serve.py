"""`dashbelle serve`: binds the port, runs the service, says when it is ready and how to call it, drains on Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
import uvloop

from dashbelle import logs
from dashbelle import settings as settings_file
from dashbelle.app import CannotStart, Service, running
from dashbelle.cli.opened import FAILED, MISUSED, fail
from dashbelle.models.presets import BELLE
from dashbelle.settings import Settings
from dashbelle.wire.front import GuardedHttp
from dashbelle.wire.routes import GENERATION_PATH
from dashbelle.wire.websocket_front import GuardedWebSocket

BACKLOG = 2048
KEEP_ALIVE_S = 75
PING_S = 20
"""Between pings on a WebSocket."""
PONG_S = 60
"""For the pong. Long, because AioGeneration answers pings only while its caller waits for the next event."""
AFTER_DRAIN_S = 5.0
"""For the last bytes of drained calls to leave, in seconds."""


def serve(  # noqa: PLR0917 - typer's options, all given by name
    host: Annotated[str | None, typer.Option(help="Address to listen on [default: 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one [default: 8080].")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model to serve; may be given several times.")] = None,
    home: Annotated[Path | None, typer.Option(help="Data folder [default: DASHBELLE_HOME or the user's].")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, pretty or json [default: auto].")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error [default: info].")] = None,
) -> None:
    """Serve DashScope's API on this machine. Ctrl-C lets running calls finish; once more ends at once.

    Examples:

        dashbelle serve

        dashbelle serve --port 9000 --model echo

        DASHBELLE_HOME=/tmp/try dashbelle serve
    """
    flags = {
        "host": host,
        "port": port,
        "models": tuple(model) if model else None,
        "home": home,
        "log_format": log_format,
        "log_level": log_level,
    }
    try:
        settings = settings_file.load(flags).settings
        logs.configure(settings.log_format, settings.log_level)
        uvloop.run(_serve(settings))
    except settings_file.BadSetting as error:
        fail(str(error), MISUSED)
    except CannotStart as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


class _Server(uvicorn.Server):
    """Drains the pipeline while uvicorn waits for its connections to end."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_s: float) -> None:
        super().__init__(config)
        self._service = service
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once, when a signal has come. A second one makes uvicorn's part return early, which ends the drain."""
        pipeline = self._service.pipeline
        draining = asyncio.create_task(pipeline.drain(self._drain_s))
        await super().shutdown(sockets)
        draining.cancel()
        await pipeline.drain(0)


async def _serve(settings: Settings) -> None:
    listener = _listen(settings.host, settings.port)
    url = _url(settings.host, listener)
    with listener:
        async with running(settings) as service:
            server = _Server(_config(service, settings), service, settings.drain_s)
            # uvicorn takes these over, and hands the signals that it caught to these handlers when all is done.
            signal.signal(signal.SIGTERM, lambda *_: None)
            signal.signal(signal.SIGINT, lambda *_: None)
            greeting = asyncio.create_task(_greet(server, service, settings, url))
            await server.serve(sockets=[listener])
            greeting.cancel()
    if greeting.done() and not greeting.cancelled():
        typer.echo("Stopped.")


def _config(service: Service, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        service.asgi,
        http=GuardedHttp,
        ws=GuardedWebSocket,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.drain_s + AFTER_DRAIN_S),
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise CannotStart(f"cannot listen on {host} port {port}: {reason}; try --port 0 for a free one") from None


def _url(host: str, listener: socket.socket) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{reachable}:{listener.getsockname()[1]}"


async def _greet(server: uvicorn.Server, service: Service, settings: Settings, url: str) -> None:
    """Print what a user needs, once the first call would be answered."""
    if not settings.loopback:
        typer.echo(f"Listening on {settings.host}: put TLS in front of it before keys travel over a network.", err=True)
    while not server.started or service.catalog.unready():  # noqa: ASYNC110 - neither has an event for it
        await asyncio.sleep(0.02)
    typer.echo(greeting(service, url))


def greeting(service: Service, url: str) -> str:
    """The start-up text: address, models, the first key once, and three calls to paste."""
    lines = [f"Dashbelle {version('dashbelle')} is ready on {url}", "", "Models:"]
    lines += [f"  {name}" for name in service.catalog.models]
    for asked, answering in service.catalog.stand_ins.items():
        lines += [
            f"  {asked}: its weights are not here. The STAND-IN {answering} answers for it:",
            "    a small English model, not BELLE; in Chinese it answers poorly.",
        ]
    if service.first_key is not None:
        lines += [
            "",
            f"API key: {service.first_key}",
            "  It is shown this once. More: dashbelle keys create --name NAME",
        ]
    secret = service.first_key or "sk-..."
    model = (
        BELLE if BELLE in (*service.catalog.models, *service.catalog.stand_ins) else next(iter(service.catalog.models))
    )
    body = f'{{"model": "{model}", "input": {{"prompt": "Human:Hello!\\n\\nAssistant:"}}}}'
    call = [
        f"curl {{}}{url}{GENERATION_PATH} \\",
        '  -H "Authorization: Bearer $DASHSCOPE_API_KEY" -H "Content-Type: application/json" \\',
        f"  -d '{body}'",
    ]
    lines += ["", "Try it:", f"export DASHSCOPE_API_KEY={secret}", ""]
    lines += [call[0].format(""), *call[1:], "", call[0].format("-N -H 'X-DashScope-SSE: enable' "), *call[1:], ""]
    lines += [
        "# pip install dashscope",
        f"DASHSCOPE_HTTP_BASE_URL={url}/api/v1 python3 -c '",
        "from dashscope import Generation",
        f'print(Generation.call(model="{model}", prompt="Human:Hello!\\n\\nAssistant:"))\'',
        "",
        "Ctrl-C stops the server.",
    ]
    return "\n".join(lines)
