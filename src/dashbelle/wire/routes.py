"""The ASGI app: paths to endpoints, one log line per request, and the only place that catches everything."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import Lifespan, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from dashbelle.engine.catalog import Catalog
from dashbelle.errors import DashbelleError, InternalError, MethodNotSupported, NotFound
from dashbelle.uploads.shelf import Shelf
from dashbelle.vocabulary import Caller
from dashbelle.wire.access_log import log_access
from dashbelle.wire.callers import Keyed, KeyRing
from dashbelle.wire.exchange import Exchange, ExchangeLimits
from dashbelle.wire.files import Files
from dashbelle.wire.health import Healthz, Metrics, Readiness, Readyz
from dashbelle.wire.http import CallPipeline, Generation
from dashbelle.wire.models import Models
from dashbelle.wire.openai import CHAT_ALIAS, PREFIX, chat_completions, is_compatible, no_embeddings, text_completions
from dashbelle.wire.openai_errors import encode_error as encode_compatible_error
from dashbelle.wire.openai_models import CompatibleModels
from dashbelle.wire.tasks import cancel_task, list_tasks, show_task
from dashbelle.wire.tokenizer import Tokenizer, TokenizingPipeline
from dashbelle.wire.upgrade import Upgrade
from dashbelle.wire.websocket import Inference

GENERATION_PATH = "/api/v1/services/aigc/text-generation/generation"
MULTIMODAL_PATH = "/api/v1/services/aigc/multimodal-generation/generation"
INFERENCE_PATH = "/api-ws/v1/inference"

_EXCHANGE = "dashbelle.exchange"
"""Where the exchange travels in an ASGI scope."""
_SLASHES = re.compile("/{2,}")
_MISSING_SLASH = re.compile("^/(api|compatible-mode)/v1(?=[^/])")
"""SDKs join base and path in several ways."""

Handler = Callable[[Any], Awaitable[None]]
"""Takes an Exchange; under a WebSocketRoute an Upgrade."""


class ServedPipeline(CallPipeline, TokenizingPipeline, Protocol):
    """pipeline.Pipeline, as all the routes together see it."""


def build(
    pipeline: ServedPipeline,
    *,
    catalog: Catalog,
    shelf: Shelf,
    readiness: Readiness,
    registry: CollectorRegistry,
    log: FilteringBoundLogger,
    limits: ExchangeLimits,
    lifespan: Lifespan[Any] | None = None,
    new_request_id: Callable[[], str] = lambda: str(uuid4()),
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Application:
    """The whole HTTP side as one ASGI app. `clock` counts seconds, `now` those of the Unix era."""
    inference = Inference(pipeline, log=log, new_request_id=new_request_id, clock=clock)
    routes = [
        Route(GENERATION_PATH, Endpoint(Generation(pipeline), "POST")),
        Route(MULTIMODAL_PATH, Endpoint(Generation(pipeline, as_parts=True), "POST")),
        Route("/api/v1/tokenizer", Endpoint(Tokenizer(pipeline), "POST")),
        WebSocketRoute(INFERENCE_PATH, Endpoint(inference, "GET")),
        *_kept_things(pipeline, catalog, shelf),
        *_compatible(pipeline, catalog, now),
        Route("/healthz", Endpoint(Healthz(), "GET", "HEAD")),
        Route("/readyz", Endpoint(Readyz(readiness), "GET", "HEAD")),
        Route("/metrics", Endpoint(Metrics(registry), "GET", "HEAD")),
    ]
    router = Router(routes, redirect_slashes=False, default=_not_found, lifespan=lifespan)
    return Application(router, log, limits, new_request_id, clock)


def _kept_things(keys: KeyRing, catalog: Catalog, shelf: Shelf) -> list[Route]:
    """What is listed and looked up by its name rather than computed."""
    models, files, keyed = Models(catalog), Files(shelf), partial(Keyed, keys)
    return [
        Route("/api/v1/models", Endpoint(keyed(models.list), "GET")),
        Route("/api/v1/models/{model}", Endpoint(keyed(models.show), "GET")),
        Route("/api/v1/tasks", Endpoint(keyed(list_tasks), "GET")),
        Route("/api/v1/tasks/{task}", Endpoint(keyed(show_task), "GET")),
        Route("/api/v1/tasks/{task}/cancel", Endpoint(keyed(cancel_task), "POST")),
        Route("/api/v1/files", Endpoint(keyed(files.list), "GET", POST=keyed(files.upload))),
        Route("/api/v1/files/{file}", Endpoint(keyed(files.show), "GET", DELETE=keyed(files.delete))),
        *(
            Route(f"/api/v1/{name}{rest}", Endpoint(keyed(_absent), "GET", "POST", "PUT", "DELETE"))
            for name in ("fine-tunes", "deployments")
            for rest in ("", "/{rest:path}")
        ),
    ]


def _compatible(pipeline: CallPipeline, catalog: Catalog, now: Callable[[], float]) -> list[Route]:
    """What OpenAI's clients ask for."""
    models, keyed = CompatibleModels(catalog, created=now()), partial(Keyed, pipeline)
    chat = Endpoint(chat_completions(pipeline, now), "POST")
    return [
        Route(f"{PREFIX}/chat/completions", chat),
        Route(CHAT_ALIAS, chat),
        Route(f"{PREFIX}/completions", Endpoint(text_completions(pipeline, now), "POST")),
        Route(f"{PREFIX}/embeddings", Endpoint(keyed(no_embeddings), "POST")),
        Route(f"{PREFIX}/models", Endpoint(keyed(models.list), "GET")),
        Route(f"{PREFIX}/models/{{model}}", Endpoint(keyed(models.show), "GET")),
    ]


class Endpoint:
    """Handlers under a path, by method. An object, so that Starlette adds nothing of its own."""

    def __init__(self, handler: Handler, *methods: str, **others: Handler) -> None:
        self._handlers = dict.fromkeys(methods, handler) | others

    @property
    def methods(self) -> list[str]:
        """All that it knows."""
        return list(self._handlers)

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        """Raises MethodNotSupported, and what the handler raises."""
        exchange: Exchange = scope[_EXCHANGE]
        handler = self._handlers.get(exchange.method)
        if handler is None:
            raise MethodNotSupported(exchange.method)
        await handler(exchange)


class Application:
    """The outermost layer: every request gets an id, a log line and, whatever happens, an answer of the protocol."""

    def __init__(
        self,
        router: Router,
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

    @property
    def routes(self) -> list[BaseRoute]:
        """Everything that it answers but with "not found"."""
        return self._router.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._router(scope, receive, send)
            return
        scope["path"] = _normal(scope["path"])
        kind = Upgrade if scope["type"] == "websocket" else Exchange
        exchange = kind(scope, receive, send, request_id=self._new_request_id(), limits=self._limits)
        scope[_EXCHANGE] = exchange
        if is_compatible(scope["path"]):
            exchange.encode_error = encode_compatible_error
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
        log_access(
            self._log,
            "request",
            request_id=exchange.request_id,
            method=exchange.method,
            path=exchange.path,
            status=exchange.status,
            duration_s=duration_s,
            key=exchange.key_name,
            code=exchange.error_code,
            client_gone=exchange.client_gone,
        )


async def _absent(_exchange: Exchange, _caller: Caller) -> None:
    raise NotFound


async def _not_found(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotFound


def _normal(path: str) -> str:
    """`path` as the routes spell it: single slashes, none at the end."""
    single = _SLASHES.sub("/", path)
    return _MISSING_SLASH.sub(r"/\1/v1/", single).rstrip("/") or "/"
