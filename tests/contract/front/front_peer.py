"""A client that sends exactly the bytes it is told to, and reads answers strictly."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

import httptools

HOST = b"Host: t\r\n"
GET_OK = b"GET /ok HTTP/1.1\r\n" + HOST + b"\r\n"


def get(path: str) -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: t\r\n\r\n" % path.encode()


def post(path: str, body: bytes = b"", fields: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: t\r\n%sContent-Length: %d\r\n\r\n" % (path.encode(), fields, len(body))
    return head + body


def chunked(path: str, body: bytes, fields: bytes = b"") -> bytes:
    """A chunked POST whose body, framing included, is given."""
    return b"POST %s HTTP/1.1\r\nHost: t\r\n%sTransfer-Encoding: chunked\r\n\r\n%s" % (path.encode(), fields, body)


@dataclass
class Answer:
    """One response; `is_whole` once its end was seen."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)


class Answers:
    """Every response in a byte stream; raises httptools.HttpParserError on bytes that are none."""

    def __init__(self) -> None:
        self.all: list[Answer] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.all.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.all[-1].headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.all[-1].status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.all[-1].body += body

    def on_message_complete(self) -> None:
        self.all[-1].is_whole = True


class Peer:
    """One connection to the server. Use as a context manager."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(10)
        self._answers = Answers()
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave with a FIN, or with a RST if something is unread."""
        self._socket.close()

    def send(self, data: bytes) -> Self:
        self._socket.sendall(data)
        return self

    def send_until_refused(self, data: bytes, times: int) -> int:
        """Send `data` again and again until the server closes; how often it was taken."""
        for sent in range(times):
            try:
                self._socket.sendall(data)
            except OSError:
                return sent
        return times

    def send_until_blocked(self, data: bytes, times: int) -> int:
        """Send `data` again and again until the server reads no more; how often it was taken."""
        self._socket.settimeout(0.3)
        try:
            return self.send_until_refused(data, times)
        finally:
            self._socket.settimeout(10)

    def half_close(self) -> Self:
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Leave with a RST instead of a FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._socket.close()

    def receive(self) -> bytes:
        """Whatever comes next; empty at the end."""
        data = self._socket.recv(65536)
        self._answers.feed(data)
        return data

    def receive_raw(self, size: int = 65536) -> bytes:
        """What comes next, not read as HTTP."""
        return self._socket.recv(size)

    def answer(self) -> Answer:
        """The next whole response."""
        while not (self._answers.all and self._answers.all[0].is_whole):
            if not self.receive():
                raise AssertionError(f"closed before a whole answer: {self._answers.all}")
        return self._answers.all.pop(0)

    def rest(self) -> list[Answer]:
        """Every response until the server closes."""
        while self.receive():
            pass
        rest, self._answers.all = self._answers.all, []
        return rest

    def soon(self, seconds: float) -> list[Answer]:
        """Every response until the server closes or is silent for so long."""
        self._socket.settimeout(seconds)
        try:
            return self.rest()
        except TimeoutError:
            return self._answers.all

    def is_closed_within(self, seconds: float) -> bool:
        """Whether the server ends the connection, however it does so."""
        self._socket.settimeout(seconds)
        try:
            while self._socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


def ask(port: int, request: bytes) -> Answer:
    """One request on its own connection, one answer."""
    with Peer(port) as peer:
        return peer.send(request).answer()


def exchange(port: int, data: bytes) -> list[Answer]:
    """Send `data` and read until the server closes."""
    with Peer(port) as peer:
        return peer.send(data).rest()


def assert_refusal(answer: Answer, status: int, code: str) -> None:
    """The front's own error: the protocol's JSON, its id in the header too, the connection's end announced."""
    assert answer.is_whole
    assert answer.status == status, answer
    assert set(answer.json) == {"code", "message", "request_id"}
    assert answer.json["code"] == code
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == answer.json["request_id"]
    assert UUID(answer.json["request_id"]).version == 4
    assert answer.headers["connection"] == "close"


def wait_until_gone(port: int, name: str, within_s: float = 2.0) -> str:
    """The phase in which the app noticed that client `name` left."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        gone = ask(port, get("/left")).json
        if name in gone:
            return str(gone[name])
        time.sleep(0.02)
    raise AssertionError(f"the app never learned that {name} left")
