"""The ASGI app: paths to endpoints, one log line per request, and the only place that catches everything."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from prometheus_client import CollectorRegistry
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from structlog.typing import FilteringBoundLogger

from dashbelle.errors import DashbelleError, InternalError, MethodNotSupported, NotFound
from dashbelle.wire.exchange import Exchange, ExchangeLimits
from dashbelle.wire.health import Healthz, Metrics, Readiness, Readyz
from dashbelle.wire.http import CallPipeline, Generation

GENERATION_PATH = "/api/v1/services/aigc/text-generation/generation"
STATUS_CLIENT_GONE = 499
"""What the log says when the client left before its answer began; the number is nginx's."""

_EXCHANGE = "dashbelle.exchange"
"""Where the exchange travels in an ASGI scope."""
_SLASHES = re.compile("/{2,}")
_MISSING_SLASH = re.compile("^/api/v1(?=[^/])")
"""SDKs join base and path in several ways."""

Handler = Callable[[Exchange], Awaitable[None]]


def build(
    pipeline: CallPipeline,
    *,
    readiness: Readiness,
    registry: CollectorRegistry,
    log: FilteringBoundLogger,
    limits: ExchangeLimits,
    lifespan: Lifespan[Any] | None = None,
    new_request_id: Callable[[], str] = lambda: str(uuid4()),
    clock: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """The whole HTTP side as one ASGI app. `clock` counts seconds."""
    routes = [
        Route(GENERATION_PATH, Endpoint(Generation(pipeline), "POST")),
        Route("/healthz", Endpoint(Healthz(), "GET", "HEAD")),
        Route("/readyz", Endpoint(Readyz(readiness), "GET", "HEAD")),
        Route("/metrics", Endpoint(Metrics(registry), "GET", "HEAD")),
    ]
    router = Router(routes, redirect_slashes=False, default=_not_found, lifespan=lifespan)
    return Application(router, log, limits, new_request_id, clock)


class Endpoint:
    """A handler under a path, with the methods that it knows. An object, so that Starlette adds nothing of its own."""

    def __init__(self, handler: Handler, *methods: str) -> None:
        self._handler = handler
        self._methods = methods

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Raises MethodNotSupported, and what the handler raises."""
        exchange: Exchange = scope[_EXCHANGE]
        if exchange.method not in self._methods:
            raise MethodNotSupported(exchange.method)
        await self._handler(exchange)


class Application:
    """The outermost layer: every request gets an id, a log line and, whatever happens, an answer of the protocol."""

    def __init__(
        self,
        router: ASGIApp,
        log: FilteringBoundLogger,
        limits: ExchangeLimits,
        new_request_id: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._router = router
        self._log = log
        self._limits = limits
        self._new_request_id = new_request_id
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._router(scope, receive, send)
            return
        scope["path"] = _normal(scope["path"])
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, request_id=self._new_request_id(), limits=self._limits)
        scope[_EXCHANGE] = exchange
        started_at = self._clock()
        try:
            await self._answer(scope, receive, send, exchange)
        finally:
            self._log_access(exchange, self._clock() - started_at)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        try:
            await self._router(scope, receive, send)
        except DashbelleError as error:
            if isinstance(error, InternalError):
                self._log_unforeseen(exchange, error)
            await exchange.fail(error)
        except Exception as error:  # noqa: BLE001 - the top of the wire: whatever happened, the caller gets an answer
            self._log_unforeseen(exchange, error)
            await exchange.fail(InternalError())

    def _log_unforeseen(self, exchange: Exchange, error: Exception) -> None:
        self._log.error("unforeseen error", request_id=exchange.request_id, exc_info=error)

    def _log_access(self, exchange: Exchange, duration_s: float) -> None:
        optional = {
            "key": exchange.key_name,
            "code": exchange.error_code,
            "client_gone": exchange.client_gone or None,
        }
        self._log.info(
            "request",
            request_id=exchange.request_id,
            method=exchange.method,
            path=exchange.path,
            status=exchange.status or STATUS_CLIENT_GONE,
            duration_ms=round(duration_s * 1000, 1),
            **{name: value for name, value in optional.items() if value is not None},
        )


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocketClose()(scope, receive, send)
        return
    raise NotFound


def _normal(path: str) -> str:
    """`path` as the routes spell it: single slashes, none at the end."""
    single = _SLASHES.sub("/", path)
    return _MISSING_SLASH.sub("/api/v1/", single).rstrip("/") or "/"
