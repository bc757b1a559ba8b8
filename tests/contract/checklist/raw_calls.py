"""Requests and replies as bytes, to the generation path of a real server; it knows no SDK and judges nothing."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2

from running_server import RunningServer

PATH = "/api/v1/services/aigc/text-generation/generation"
PATIENCE_S = 60.0
TEXT = "Human:你好,世界 😀🌊\n\nAssistant:"
"""What echo is asked, and must therefore say."""
STREAM = {"X-DashScope-SSE": "enable"}


class Refusal(NamedTuple):
    """What a caller sees of an error."""

    status: int
    code: str
    message: str


def body(prompt: object = TEXT, **changes: object) -> dict[str, object]:
    """A good body for echo; a change to ... leaves that part out."""
    whole = {"model": "echo", "input": {"prompt": prompt}, "parameters": {}, **changes}
    return {name: value for name, value in whole.items() if value is not ...}


def post(
    server: RunningServer, content: object, headers: Mapping[str, str] | None = None, path: str = PATH
) -> httpx2.Response:
    """The reply to any content; one that is no bytes is sent as JSON. A header "" is left out."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    fields = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json", **(headers or {})}
    sent = {name: value for name, value in fields.items() if value}
    return httpx2.post(server.url + path, content=raw, headers=sent, timeout=PATIENCE_S, trust_env=False)


def get(server: RunningServer, path: str) -> httpx2.Response:
    """The reply to a GET with the good key."""
    fields = {"Authorization": f"Bearer {server.key}"}
    return httpx2.get(server.url + path, headers=fields, timeout=PATIENCE_S, trust_env=False)


def ask(server: RunningServer, prompt: object = TEXT, **parameters: object) -> httpx2.Response:
    """The reply to a prompt with these parameters."""
    return post(server, body(prompt, parameters=parameters))


def answer(server: RunningServer, prompt: object = TEXT, **parameters: object) -> dict[str, Any]:
    """The body of a call that went well."""
    reply = ask(server, prompt, **parameters)
    assert reply.status_code == 200, reply.text
    value: dict[str, Any] = reply.json()
    return value


def refusal(reply: httpx2.Response) -> Refusal:
    """An error, after a look at its form."""
    assert reply.headers["content-type"] == "application/json"
    told = reply.json()
    assert set(told) == {"code", "message", "request_id"}
    assert told["request_id"] == reply.headers["x-request-id"]
    return Refusal(reply.status_code, told["code"], told["message"])


def frames(raw: bytes) -> list[dict[str, Any]]:
    """The JSON of each event of a whole stream, whatever kind it is."""
    lines = raw.decode().split("\n")
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


@contextmanager
def connection(server: RunningServer) -> Iterator[http.client.HTTPConnection]:
    """One connection for several requests."""
    address = urlsplit(server.url)
    opened = http.client.HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE_S)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def raw_socket(server: RunningServer) -> Iterator[socket.socket]:
    """A connection for bytes of one's own."""
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=PATIENCE_S) as opened:
        yield opened


def head(server: RunningServer, length: int, *fields: str, version: str = "1.1") -> bytes:
    """The head of a POST with a body of so many bytes."""
    lines = [
        f"POST {PATH} HTTP/{version}",
        f"Host: {urlsplit(server.url).netloc}",
        f"Authorization: Bearer {server.key}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def until_closed(opened: socket.socket) -> bytes:
    """All that arrives before the server closes."""
    return b"".join(iter(lambda: opened.recv(65_536), b""))
