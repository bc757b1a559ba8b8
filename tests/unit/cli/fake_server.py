"""A server of the native protocol that answers from a script, without a network."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx2

URL = "http://server"
KEY = "sk-good"
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream;charset=UTF-8", "x-accel-buffering": "no"}


class Pieces(httpx2.AsyncByteStream):
    """A body that arrives piece by piece; an exception among them breaks it off."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def event(text: str, *, finish: str = "null", tokens: int = 1) -> bytes:
    data = {
        "output": {
            "choices": [{"message": {"content": text, "role": "assistant"}, "index": 0, "finish_reason": finish}]
        },
        "usage": {"total_tokens": 8 + tokens, "input_tokens": 8, "output_tokens": tokens},
        "request_id": "r",
    }
    return f"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{json.dumps(data, separators=(',', ':'))}\n\n".encode()


class FakeServer(httpx2.MockTransport):
    """Has models, health and one answer; every part can be replaced. Keeps the bodies of its calls."""

    def __init__(
        self,
        *pieces: bytes | Exception,
        models: Sequence[tuple[str, str]] = (("echo", "echo"),),
        headers: dict[str, str] | None = None,
        event_headers: dict[str, str] | None = None,
        **replies: Callable[[httpx2.Request], httpx2.Response],
    ) -> None:
        """`models` are names and what answers for them; `headers` are on every reply; `replies` go by route."""
        super().__init__(self._reply)
        self.bodies: list[dict[str, Any]] = []
        self._pieces = pieces or (event("你"), event("好", tokens=2), event("", finish="stop", tokens=2))
        self._models = models
        self._headers = headers or {}
        self._event_headers = event_headers or {}
        self._replies = replies

    def _reply(self, request: httpx2.Request) -> httpx2.Response:
        route = request.url.path.rpartition("/")[2]
        if route in self._replies:
            return self._replies[route](request)
        if route in {"healthz", "readyz"}:
            return self._json(200, {"status": "alive" if route == "healthz" else "ready"})
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return error(401, "InvalidApiKey", "Invalid API-key provided.")
        if route == "models":
            entries = [{"model": name, "served_by": served} for name, served in self._models]
            return self._json(200, {"output": {"total": len(entries), "models": entries}, "request_id": "r"})
        self.bodies.append(json.loads(request.content))
        return httpx2.Response(
            200, headers={**EVENTS, **self._headers, **self._event_headers}, stream=Pieces(self._pieces)
        )

    def _json(self, status: int, body: object) -> httpx2.Response:
        return httpx2.Response(status, headers={**JSON, **self._headers}, content=json.dumps(body).encode())


def error(status: int, code: str, message: str) -> httpx2.Response:
    body = {"code": code, "message": message, "request_id": "r"}
    return httpx2.Response(status, headers=JSON, content=json.dumps(body).encode())


def refusing(failure: Exception) -> Callable[[httpx2.Request], httpx2.Response]:
    def reply(_request: httpx2.Request) -> httpx2.Response:
        raise failure

    return reply
