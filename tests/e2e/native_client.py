"""Calls of the native protocol over plain HTTP, as bytes; checks the form of every event and judges no content."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx2

from running_server import RunningServer

BELLE = "belle-llama-13b-2m-v1"
PATH = "/api/v1/services/aigc/text-generation/generation"
LONG_STORY = "Human:Write a very long story about a lighthouse, with many chapters.\n\nAssistant:"
ENDLESS = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": 3000}
"""With these the stand-in goes round in circles until half a minute or more has gone."""
PATIENCE_S = 100.0

_EVENT = re.compile(rb"id:(\d+)\nevent:(result|error)\n:HTTP_STATUS/(\d+)\ndata:(\{[^\n]*\})\n\n")
_HEARTBEAT = b":\n"


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    number: int
    kind: str
    status: int
    data: dict[str, Any]

    @property
    def text(self) -> str:
        """The output's text."""
        return str(self.data["output"]["text"])

    @property
    def finish(self) -> str:
        """ "null", "stop" or "length"."""
        return str(self.data["output"]["finish_reason"])


class NativeClient:
    """One caller of one server. `model` is what it asks for."""

    def __init__(self, server: RunningServer, *, model: str = BELLE, key: str | None = None) -> None:
        self._model = model
        self._url = server.url + PATH
        self._headers = {
            "Authorization": f"Bearer {server.key if key is None else key}",
            "Content-Type": "application/json",
        }

    def post(self, body: object, headers: dict[str, str] | None = None) -> httpx2.Response:
        """The answer to any body; one that is no bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        headers = {**self._headers, **(headers or {})}
        return httpx2.post(self._url, content=content, headers=headers, timeout=PATIENCE_S, trust_env=False)

    def ask(self, prompt: str, **parameters: object) -> httpx2.Response:
        """The answer to a prompt, not streamed."""
        return self.post(self._body(prompt, parameters))

    def answer(self, prompt: str, **parameters: object) -> dict[str, Any]:
        """The same as the body of a call that went well."""
        response = self.ask(prompt, **parameters)
        assert response.status_code == 200, response.text
        return cast(dict[str, Any], response.json())

    @contextmanager
    def stream(self, prompt: str, **parameters: object) -> Iterator[Stream]:
        """The answer as events; leaving the block early hangs up."""
        body = json.dumps(self._body(prompt, parameters), ensure_ascii=False).encode()
        headers = {**self._headers, "X-DashScope-SSE": "enable"}
        with httpx2.stream(
            "POST", self._url, content=body, headers=headers, timeout=PATIENCE_S, trust_env=False
        ) as response:
            assert response.status_code == 200, response.read()
            yield Stream(response)

    def _body(self, prompt: str, parameters: dict[str, object]) -> dict[str, object]:
        return {"model": self._model, "input": {"prompt": prompt}, "parameters": parameters}


class Stream:
    """The events of one answer, as they arrive."""

    def __init__(self, response: httpx2.Response) -> None:
        self.request_id = response.headers["x-request-id"]
        self._events = _events(response.iter_raw())

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def __next__(self) -> Event:
        return next(self._events)

    def last(self) -> Event:
        """The last event, when the stream has ended."""
        *_, event = self._events
        return event


def _events(pieces: Iterator[bytes]) -> Iterator[Event]:
    """Each event as soon as it is whole; numbers must count from 1, and nothing may be left over."""
    rest, count = b"", 0
    for piece in pieces:
        rest = rest + piece
        while rest.startswith(_HEARTBEAT) or b"\n\n" in rest:
            if rest.startswith(_HEARTBEAT):
                rest = rest.removeprefix(_HEARTBEAT)
                continue
            match = _EVENT.match(rest)
            assert match, rest[:500]
            rest, count = rest[match.end() :], count + 1
            assert int(match[1]) == count
            yield Event(count, match[2].decode(), int(match[3]), json.loads(match[4]))
    assert not rest
