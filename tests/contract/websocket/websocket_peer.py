"""A WebSocket client that sends exactly the frames it is told to, broken ones too, and reads strictly."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Self

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """One frame."""
    length, extended = len(data), b""
    if length > 0xFFFF:
        length, extended = 127, struct.pack("!Q", length)
    elif length > 125:
        length, extended = 126, struct.pack("!H", length)
    head = bytes([(FIN if fin else 0) | reserved | opcode, (0x80 if masked else 0) | length]) + extended
    # A mask of zeros leaves the data as it is.
    return head + (bytes(4) if masked else b"") + data


@dataclass(frozen=True)
class Response:
    """What an upgrade request was answered with."""

    status_line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)


class Peer:
    """One connection. Use as a context manager."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(10)
        self._socket.connect(("127.0.0.1", port))
        self._unparsed = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, path: str, **fields: str | None) -> Response:
        """Ask for an upgrade; a field of None is left out, `_` in a name stands for `-`."""
        changes = {name.replace("_", "-"): value for name, value in fields.items()}
        lines = [f"{name}: {value}" for name, value in (HANDSHAKE | changes).items() if value is not None]
        self.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: t", *lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._unparsed:
            self._receive()
        head, _, self._unparsed = self._unparsed.partition(b"\r\n\r\n")
        status_line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        assert len(headers) == len(rest), f"repeated header: {rest}"
        return Response(status_line, headers, self._take(int(headers.get("content-length", "0"))))

    def upgrade(self, path: str, **fields: str | None) -> Self:
        """The same, and it must be granted."""
        assert self.ask(path, **fields).status_line == "HTTP/1.1 101 Switching Protocols"
        return self

    def send(self, data: bytes) -> Self:
        self._socket.sendall(data)
        return self

    def say(self, text: str) -> Self:
        return self.send(frame(TEXT, text.encode()))

    def receive(self) -> tuple[int, bytes]:
        """Opcode and data of the next frame, which must be whole and unmasked."""
        first, length = self._take(2)
        assert first & 0xF0 == FIN
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return first & 0x0F, self._take(length)

    def text(self) -> str:
        opcode, data = self.receive()
        assert opcode == TEXT, (opcode, data[:100])
        return data.decode()

    def close_code(self) -> int:
        """The code of the next frame, which must be a close."""
        opcode, data = self.receive()
        assert opcode == CLOSE, (opcode, data[:100])
        (code,) = struct.unpack("!H", data[:2])
        return int(code)

    def take_slowly(self, seconds: float, bytes_per_s: int) -> None:
        """Read, but little at a time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self._socket.recv(bytes_per_s // 10), "closed meanwhile"
            time.sleep(0.1)

    def is_closed_within(self, seconds: float) -> bool:
        """Whether the connection ends in that time, whatever else comes."""
        self._socket.settimeout(seconds)
        try:
            while self._socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def _take(self, size: int) -> bytes:
        while len(self._unparsed) < size:
            self._receive()
        data, self._unparsed = self._unparsed[:size], self._unparsed[size:]
        return data

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        assert data, f"closed with {len(self._unparsed)} bytes unparsed"
        self._unparsed += data


def rss_bytes(pid: int) -> int:
    """The memory that a process holds."""
    with open(f"/proc/{pid}/statm") as statm:  # noqa: PTH123 - not a file in any folder of ours
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
