"""A running server as its clients see it: the native protocol over HTTP, every failure as one line."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx2

from dashbelle.wire.routes import GENERATION_PATH

PATIENCE_S = 310.0
"""Longer than a server's own limit for a call: it may wait in a queue before its answer begins."""
CONNECT_S = 5.0
_GATEWAY_ERRORS = {502, 503, 504}

Turn = dict[str, str]


class CannotAsk(Exception):
    """The server did not do as asked. Its text is one line for the person who asked."""


class KeyRefused(CannotAsk):
    """The server does not take the key, or none was given."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that can be asked, and the one that really answers."""

    name: str
    served_by: str


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of an answer, and the tokens of the whole call so far."""

    text: str
    input_tokens: int
    output_tokens: int


class RemoteServer:
    """One server, one key. What talks to it raises CannotAsk."""

    def __init__(self, url: str, key: str | None, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self.url = base_url(url)
        host = urlsplit(self.url).hostname or ""
        self._client = httpx2.AsyncClient(
            base_url=self.url,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(PATIENCE_S, connect=CONNECT_S),
            trust_env=not is_loopback(host),  # a proxy of the environment does not reach this machine
            transport=transport,
        )

    async def close(self) -> None:
        """Let go of its connections."""
        await self._client.aclose()

    async def get(self, path: str) -> httpx2.Response:
        """The whole response, whatever its status."""
        with _told(self.url):
            return await self._client.get(path)

    async def models(self) -> list[ListedModel]:
        """What can be asked, in the server's order. Raises KeyRefused."""
        reply = await self.get("/api/v1/models?page_size=1000")
        raise_for(reply, self.url)
        with _told(self.url):
            entries = reply.json()["output"]["models"]
            return [ListedModel(entry["model"], entry.get("served_by", entry["model"])) for entry in entries]

    async def answer(self, model: str, turns: Sequence[Turn]) -> AsyncGenerator[Piece, None]:
        """The pieces of the answer to a conversation, as they arrive."""
        body = {
            "model": model,
            "input": {"messages": list(turns)},
            "parameters": {"result_format": "message", "incremental_output": True},
        }
        async with self.events(body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    yield _piece(json.loads(line.removeprefix("data:")))

    @asynccontextmanager
    async def events(self, body: Mapping[str, Any]) -> AsyncGenerator[httpx2.Response, None]:
        """The response to a call, begun: the events are still to be read, within this block."""
        headers = {"x-dashscope-sse": "enable", "accept": "text/event-stream"}
        with _told(self.url):
            async with self._client.stream("POST", GENERATION_PATH, json=body, headers=headers) as response:
                if response.status_code != httpx2.codes.OK:
                    await response.aread()
                    raise_for(response, self.url)
                yield response


def choose(models: Sequence[ListedModel], name: str | None) -> ListedModel:
    """The model of this name, or the first. Raises CannotAsk when it is not there."""
    for model in models:
        if name in {None, model.name}:
            return model
    names = ", ".join(model.name for model in models) or "none"
    raise CannotAsk(f"the server has no model '{name}'; it has: {names}" if name else "the server has no model")


def base_url(given: str) -> str:
    """The server's own URL of what a person typed, with or without scheme and `/api/v1`. Raises CannotAsk."""
    url = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise CannotAsk(f"'{given}' is no URL such as http://127.0.0.1:8080")
    return url.rstrip("/").removesuffix("/api/v1")


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def _told(url: str) -> Generator[None, None, None]:
    """Turns what a client library raises into CannotAsk."""
    try:
        yield
    except httpx2.ConnectError as error:
        raise CannotAsk(f"no server answers at {url} ({error}); start one: dashbelle serve") from None
    except httpx2.TimeoutException:
        raise CannotAsk(f"the server at {url} did not answer in time") from None
    except httpx2.HTTPError as error:
        raise CannotAsk(f"the connection to {url} broke off: {error or type(error).__name__}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CannotAsk(f"what answers at {url} does not speak DashScope's protocol") from None


def raise_for(reply: httpx2.Response, url: str) -> None:
    """Raise what `reply`, an error of the server or of something before it, means. Raises KeyRefused, CannotAsk."""
    if reply.status_code == httpx2.codes.OK:
        return
    try:
        code, message = reply.json()["code"], reply.json()["message"]
    except (ValueError, KeyError, TypeError):
        raise _stranger(reply, url) from None
    if reply.status_code == httpx2.codes.UNAUTHORIZED:
        raise KeyRefused(f"{url} refuses the API key; 'dashbelle keys create --name NAME' makes one")
    raise CannotAsk(f"{message} ({code})")


def _stranger(reply: httpx2.Response, url: str) -> CannotAsk:
    """What a reply means that no server of this protocol would give."""
    if reply.is_redirect:
        return CannotAsk(f"{url} sends callers on to {reply.headers.get('location')}: use that, in the SDKs too")
    if reply.status_code in _GATEWAY_ERRORS:
        return CannotAsk(f"what answers at {url} cannot reach the server behind it (status {reply.status_code})")
    request = f"{reply.request.method} {reply.request.url.path}"
    return CannotAsk(
        f"what answers at {url} does not speak DashScope's protocol (status {reply.status_code} to {request})"
    )


def _piece(data: Any) -> Piece:  # noqa: ANN401 - JSON from outside
    if "output" not in data:
        raise CannotAsk(f"{data['message']} ({data['code']})")
    choice, usage = data["output"]["choices"][0], data["usage"]
    return Piece(choice["message"]["content"], usage["input_tokens"], usage["output_tokens"])
