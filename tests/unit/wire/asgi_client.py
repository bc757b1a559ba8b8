"""What the wire's tests share: an HTTP client without a server, and a pipeline that plays a script."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog
from prometheus_client import CollectorRegistry
from starlette.types import Message as ASGIMessage

from dashbelle.engine.catalog import Catalog
from dashbelle.errors import DashbelleError, InvalidApiKey
from dashbelle.store import Store
from dashbelle.uploads.shelf import Shelf
from dashbelle.vocabulary import Call, Caller, Delta, Usage
from dashbelle.wire.exchange import ExchangeLimits
from dashbelle.wire.routes import GENERATION_PATH, build

REQUEST_ID = "0f4c2c1e-7d1f-4b7e-8f0a-1c2d3e4f5a6b"
KEY = "sk-canary-key"
AUTHORIZED = {"authorization": f"Bearer {KEY}"}
LIMITS = ExchangeLimits(max_body_bytes=4096)
PROMPT_TOKENS = 8
NOW = 1_700_000_000.5
"""Seconds of the Unix era."""
QUERY = "secret=canary-query"
NO_SHELF = Shelf(cast(Store, None), Path("nowhere"))
"""For tests that ask for no files."""

Step = Delta | Exception | asyncio.Event
"""What a scripted call does next: yields it, raises it, or waits for it."""


class ScriptedStream:
    """One call that follows its script."""

    def __init__(self, script: list[Step], served_by: str, reached: asyncio.Event) -> None:
        self.served_by = served_by
        self._script = script
        self._reached = reached
        self._tokens: dict[int, int] = {}

    @property
    def usage(self) -> Usage:
        return Usage(PROMPT_TOKENS, sum(self._tokens.values()))

    def usage_of(self, index: int) -> Usage:
        return Usage(PROMPT_TOKENS, self._tokens.get(index, 0))

    def __aiter__(self) -> ScriptedStream:
        return self

    async def __anext__(self) -> Delta:
        while self._script:
            step = self._script.pop(0)
            if isinstance(step, Delta):
                self._tokens[step.index] = self._tokens.get(step.index, 0) + step.token_count
                return step
            if isinstance(step, Exception):
                raise step
            self._reached.set()
            await step.wait()
        raise StopAsyncIteration


class ScriptedPipeline:
    """Knows one key and plays the same script to each call."""

    def __init__(
        self, *script: Step, served_by: str | None = None, entry: Exception | asyncio.Event | None = None
    ) -> None:
        """`entry`: an exception that `open` raises, or an event that it waits for."""
        self.calls: list[Call] = []
        self.reached = asyncio.Event()
        """Set when a call waits for an event."""
        self.cancelled = 0
        """How many calls were cancelled."""
        self.open_calls = 0
        self._script = script
        self._served_by = served_by
        self._entry = entry

    async def identify(self, secret: str | None) -> Caller:
        if secret != KEY:
            raise InvalidApiKey
        return Caller(key_id=1, key_name="ada")

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[ScriptedStream]:
        self.calls.append(call)
        self.open_calls += 1
        try:
            if isinstance(self._entry, Exception):
                raise self._entry
            if self._entry is not None:
                self.reached.set()
                await self._entry.wait()
            yield ScriptedStream(list(self._script), self._served_by or call.model, self.reached)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open_calls -= 1


@dataclass
class Reply:
    """What the client got; `pieces` are the body's parts as they were handed to the server."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


class Connection:
    """One request: sends its pieces, then stays until `hang_up` is set."""

    def __init__(self, pieces: list[bytes], *, whole: bool = True) -> None:
        """`whole`: whether the last piece ends the body."""
        self.reply = Reply()
        self.hang_up = asyncio.Event()
        self.unread = list(pieces)
        self._whole = whole

    async def receive(self) -> ASGIMessage:
        await asyncio.sleep(0)
        if self.unread:
            piece = self.unread.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self.unread) or not self._whole}
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: ASGIMessage) -> None:
        assert not self.reply.ended, f"sent after the end: {message}"
        if message["type"] == "http.response.start":
            assert self.reply.status is None, "two answers to one request"
            self.reply.status = message["status"]
            names = [name.decode() for name, _ in message["headers"]]
            assert len(set(names)) == len(names), f"repeated header: {names}"
            self.reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.reply.pieces.append(message.get("body", b""))
            self.reply.ended = not message.get("more_body", False)


class Gateway:
    """The app under test with everything injected, and a log that can be read back."""

    def __init__(
        self,
        pipeline: ScriptedPipeline | None = None,
        *,
        limits: ExchangeLimits = LIMITS,
        unready: list[str] | None = None,
        catalog: Catalog | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.pipeline = pipeline or ScriptedPipeline(Delta("ok", 1, "stop"))
        self.registry = CollectorRegistry()
        self._log = io.StringIO()
        log = structlog.wrap_logger(
            structlog.PrintLogger(self._log),
            processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        ticks = iter(range(1_000_000))
        self.app = build(
            self.pipeline,
            catalog=catalog or Catalog({}),
            shelf=shelf or NO_SHELF,
            readiness=lambda: unready or [],
            registry=self.registry,
            log=log,
            limits=limits,
            new_request_id=lambda: REQUEST_ID,
            clock=lambda: next(ticks) / 10,
            now=lambda: NOW,
        )

    @property
    def log(self) -> str:
        return self._log.getvalue()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]

    async def run(self, connection: Connection, scope: dict[str, Any]) -> Reply:
        await self.app(scope, connection.receive, connection.send)
        return connection.reply

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, query: str = QUERY
    ) -> Reply:
        return await self.run(Connection([b""]), scope_of(method, path, headers or {}, query))

    async def post(self, body: object, headers: Mapping[str, str] | None = None, path: str = GENERATION_PATH) -> Reply:
        connection, scope = request_of(body, headers, path)
        return await self.run(connection, scope)


def request_of(
    body: object, headers: Mapping[str, str] | None = None, path: str = GENERATION_PATH
) -> tuple[Connection, dict[str, Any]]:
    """A POST with the good key; a body that is no bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    fields = {**AUTHORIZED, "content-length": str(len(raw)), **(headers or {})}
    return Connection([raw]), scope_of("POST", path, fields)


def scope_of(method: str, path: str, headers: Mapping[str, str], query: str = QUERY) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def generation(**changes: object) -> dict[str, Any]:
    """A small valid body; a change to ... leaves the key out."""
    body = {"model": "belle", "input": {"prompt": "Human:你好\n\nAssistant:"}, **changes}
    return {name: value for name, value in body.items() if value is not ...}


def error_of(reply: Reply) -> tuple[int | None, str, str]:
    """Status, code and message of an error reply, after checking its form."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.json.keys() == {"code", "message", "request_id"}
    assert reply.json["request_id"] == reply.headers["x-request-id"] == REQUEST_ID
    assert reply.ended
    return reply.status, reply.json["code"], reply.json["message"]


def same_error(reply: Reply, error: DashbelleError) -> bool:
    return error_of(reply) == (error.status, error.code, error.message)
