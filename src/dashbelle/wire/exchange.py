"""One HTTP request and its answer, whatever the route: headers, body, JSON or event stream, errors in either."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from starlette.datastructures import Headers, QueryParams
from starlette.types import Message, Receive, Scope, Send

from dashbelle.errors import DashbelleError, LimitReached, MalformedRequest, PayloadTooLarge, RequestTooSlow
from dashbelle.wire.dashscope import encode_error

Field = tuple[bytes, bytes]
ErrorEncoder = Callable[[DashbelleError, str], bytes]
"""An error and the request's id -> a body of JSON."""

JSON = b"application/json"
_EVENT_STREAM: tuple[Field, ...] = (
    (b"content-type", b"text/event-stream;charset=UTF-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """How much of a client is borne, and for how long."""

    max_body_bytes: int
    body_stall_s: float = 8.0
    """Between two pieces of a request body."""
    drain_s: float = 1.0
    """For what a refused client still sends: closing on unread input would reset the answer away."""
    heartbeat_s: float = 15.0
    """Silence in an event stream until a comment is sent."""


class Exchange:
    """One HTTP request and its answer. Exactly one of `answer`, `begin_events` and `fail` starts the answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, request_id: str, limits: ExchangeLimits) -> None:
        self.request_id = request_id
        self.method: str = scope["method"]
        self.path = quote(scope["path"], errors="replace")
        self.headers = Headers(scope=scope)
        self.limits = limits
        self.key_name: str | None = None
        """Whose key it was, once that is known."""
        self.status: int | None = None
        """None until the answer has begun."""
        self.error_code: str | None = None
        self.encode_error: ErrorEncoder = encode_error
        """How an error is written while no answer has begun; the path decides."""
        self.client_gone = False
        self.last_event_at = 0.0
        """The event loop's time when the last event was handed to the server."""
        self._scope = scope
        self._receive = receive
        self._send = send
        self._unread = self._announces_body()
        self._error_event: Callable[[DashbelleError], bytes] | None = None
        self._ended = False

    def bearer(self) -> str | None:
        """The secret of `Authorization: Bearer ...`; None if it is missing, of another scheme or given twice."""
        values = self.headers.getlist("authorization")
        scheme, _, secret = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        return secret.strip() or None if scheme.lower() == "bearer" else None

    @property
    def query(self) -> QueryParams:
        """What follows the path's `?`."""
        return QueryParams(self._scope["query_string"])

    def path_part(self, name: str) -> str:
        """What stands at the place `{name}` of the route's path, decoded."""
        part: str = self._scope["path_params"][name]
        return part

    async def read_body(self) -> bytes:
        """The whole body. Raises PayloadTooLarge, RequestTooSlow or, if it breaks off, MalformedRequest."""
        return b"".join([piece async for piece in self.body_pieces(self.limits.max_body_bytes)])

    async def body_pieces(self, limit: int) -> AsyncGenerator[bytes, None]:
        """The body as it arrives, `limit` bytes at most; raises as `read_body` does."""
        declared = self.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise PayloadTooLarge
        size = 0
        while self._unread:
            try:
                async with asyncio.timeout(self.limits.body_stall_s):
                    piece = await self._read_piece()
            except TimeoutError:
                raise RequestTooSlow from None
            if self.client_gone:
                raise MalformedRequest("The request body broke off.")
            size += len(piece)
            if size > limit:
                raise PayloadTooLarge
            yield piece

    async def client_left(self) -> None:
        """Return when the client has hung up. The body must have been read."""
        while not self.client_gone:
            await self._read_piece()

    async def answer(self, status: int, body: bytes, fields: Iterable[Field] = (), content_type: bytes = JSON) -> None:
        """Send the whole answer. A body that was not read ends the connection."""
        length = str(len(body)).encode()
        head = [(b"content-type", content_type), (b"content-length", length), *fields]
        unread = self._unread
        if unread:
            head.append((b"connection", b"close"))
        await self._begin(status, head)
        await self._send({"type": "http.response.body", "body": body, "more_body": unread})
        if unread:
            await self._drain()
            await self._send({"type": "http.response.body", "body": b""})
        self._ended = True

    async def begin_events(self, error_event: Callable[[DashbelleError], bytes], fields: Iterable[Field] = ()) -> None:
        """Start an event stream; `error_event` writes its last event if it fails."""
        self._error_event = error_event
        await self._begin(200, [*_EVENT_STREAM, *fields])

    async def send_event(self, event: bytes) -> None:
        """Send one event, or a comment, as one piece; waits while the client reads too slowly."""
        await self._send({"type": "http.response.body", "body": event, "more_body": True})
        self.last_event_at = asyncio.get_running_loop().time()

    async def end_events(self) -> None:
        """End the event stream as one that is whole."""
        await self._send({"type": "http.response.body", "body": b""})
        self._ended = True

    async def fail(self, error: DashbelleError) -> None:
        """Answer with `error`: as a status while none was sent, else as the stream's last event."""
        self.error_code = error.code
        if self.status is None:
            await self.answer(error.status, self.encode_error(error, self.request_id), refusal_fields(error))
        elif self._error_event is not None and not self._ended:
            await self.send_event(self._error_event(error))
            await self.end_events()

    def _announces_body(self) -> bool:
        return self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers

    async def _begin(self, status: int, fields: list[Field]) -> None:
        self.status = status
        head: Message = {
            "type": "http.response.start",
            "status": status,
            "headers": [*fields, (b"x-request-id", self.request_id.encode())],
        }
        await self._send(head)

    async def _read_piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_gone = True
        self._unread = not self.client_gone and message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.drain_s):
                while self._unread:
                    await self._read_piece()


def refusal_fields(error: DashbelleError) -> list[Field]:
    """What the head of a refusal says of waiting: when to come back, or that it is no use, and how a limit stands."""
    fields: list[tuple[str, object]] = []
    if error.retry_after_s is not None:
        fields.append(("retry-after", error.retry_after_s))
    if error.should_retry is False:
        fields.append(("x-should-retry", "false"))
    if isinstance(error, LimitReached):
        fields += [
            ("x-ratelimit-limit", error.limit),
            ("x-ratelimit-remaining", error.remaining),
            ("x-ratelimit-reset", math.ceil(error.reset_s)),
        ]
    return [(name.encode(), str(value).encode()) for name, value in fields]
