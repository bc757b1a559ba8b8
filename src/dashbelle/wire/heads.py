"""What a request head may say, and the front's own refusals as bytes; pure, knows no connection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from dashbelle.errors import DashbelleError
from dashbelle.wire.dashscope import encode_error

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]+")
"""RFC 3986 authority without user: a "/" or "?" in Host has fooled servers that rebuild the URL from it."""
_DIGITS = re.compile(rb"[0-9]{1,19}")
_BLANK = b" \t"


@dataclass(frozen=True, slots=True)
class Head:
    """One parsed request head: field names in lower case, values as received."""

    method: bytes
    version: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]

    @property
    def is_sound(self) -> bool:
        """Whether every parser would frame and route it alike; what is not sound is refused, never repaired.

        Comes on top of the parser's own strictness. Source: RFC 9112, sections 3.2, 6.3 and 11.2.
        """
        return (
            self.version in {"1.0", "1.1"}
            and self.method != b"CONNECT"
            and b"#" not in self.target
            and self._is_host_sound()
            and self._is_length_sound()
        )

    @property
    def body_bytes(self) -> int | None:
        """The declared length of the body of a sound head: 0 if it has none, None if it is chunked."""
        if self._values(b"transfer-encoding"):
            return None
        lengths = self._values(b"content-length")
        return int(lengths[0]) if lengths else 0

    def without_upgrade(self) -> bytes:
        """The same head as bytes, less its Upgrade: a server may ignore it (RFC 9110, section 7.8)."""
        start = b"%s %s HTTP/%s" % (self.method, self.target, self.version.encode("ascii"))
        fields = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([start, *fields, b"", b""])

    def _values(self, name: bytes) -> list[bytes]:
        return [value.strip(_BLANK) for known, value in self.headers if known == name]

    def _is_host_sound(self) -> bool:
        hosts = self._values(b"host")
        if self.version == "1.0" and not hosts:
            return True
        return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None

    def _is_length_sound(self) -> bool:
        encodings, lengths = self._values(b"transfer-encoding"), self._values(b"content-length")
        if encodings:
            return [value.lower() for value in encodings] == [b"chunked"] and not lengths and self.version == "1.1"
        return not lengths or (len(lengths) == 1 and _DIGITS.fullmatch(lengths[0]) is not None)


def refusal(error: DashbelleError, request_id: str) -> bytes:
    """A whole response that says `error` in the protocol's JSON and announces the connection's end."""
    body = encode_error(error, request_id)
    head = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {request_id}",
        "connection: close",
    ]
    if error.retry_after_s is not None:
        head.append(f"retry-after: {error.retry_after_s}")
    return "\r\n".join([*head, "", ""]).encode("ascii") + body
