"""The hardened WebSocket protocol under the ASGI app: drain, deadlines, bounds, hang-ups; knows no routes."""

# Internals of uvicorn that this class leans on (seen in 0.54.0; before it a send did not wait for a slow reader).
# After an upgrade read its protocols/websockets/websockets_sansio_impl.py against this list, and run
# tests/contract/websocket on it.
#   WebSocketsSansIOProtocol  attributes conn, transport, loop, scope, queue, writable, frames, curr_msg_data_type,
#                      handshake_complete, close_sent (silences frames), disconnected
#     methods          shutdown is uvicorn's drain; run_asgi runs the app and closes behind it; send may wait for
#                      `writable`, and raises once the connection is ending; connection_lost, handle_close and
#                      handle_parser_exception put the disconnect into `queue`; keepalive_timeout does not;
#                      handle_ping writes the pong that `conn` has made; send_receive_event_to_app hands over `frames`
#   ServerProtocol (websockets)  accept calls reject for a bad handshake; fail, data_to_send

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from uuid import uuid4

from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from dashbelle.errors import InternalError, MalformedRequest
from dashbelle.wire.dashscope import encode_error
from dashbelle.wire.sockets import WriteWatch, has_hung_up, pending_bytes

DRAIN = "dashbelle.drain"
"""The ASGI extension for an app that ends its own connections when the server drains: await `began()` of it."""


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """One connection, from its upgrade on. Give it to uvicorn as `ws=`.

    A `send` to a client that has left does nothing, and the app learns that from `receive`, always.
    """

    write_stall_s: ClassVar[float] = 30.0
    """Without any progress of a reader that is behind."""
    sweep_s: ClassVar[float] = 0.5
    linger_s: ClassVar[float] = 2.0
    """After our end, for the peer to take its last bytes and to close its side."""
    max_fragments: ClassVar[int] = 4096
    """Of one message: each costs more memory than it brings."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # No compression: it would cost memory per connection, and time per token.
        self.conn = _Handshake(max_size=config.ws_max_size, logger=self.logger)
        self._draining = asyncio.Event()
        self._app_drains = False
        self._watch: asyncio.TimerHandle | None = None

    # The app's side

    async def run_asgi(self) -> None:
        """Run the app. Its end is the connection's, however little the peer takes."""
        self.scope["extensions"] = {**self.scope["extensions"], DRAIN: {"began": self._drain_began}}
        await super().run_asgi()
        self.loop.call_later(self.linger_s, self.transport.abort)

    async def _drain_began(self) -> None:
        self._app_drains = True
        await self._draining.wait()

    async def send(self, message: ASGISendEvent) -> None:
        """Send, as soon as the peer takes it; nothing once the connection is ending."""
        await self.writable.wait()
        ending = self.handshake_complete and self.transport.is_closing()
        if not (ending or self.close_sent or self.disconnected):
            await super().send(message)
        # After a refusal in HTTP, too; uvicorn would log each as an error of the app.
        self.handshake_complete = self.handshake_complete or self.close_sent

    # The server's side

    def shutdown(self) -> None:
        """The server drains: an app that knows of it closes when its work is done."""
        if self.close_sent or (self.handshake_complete and not self._app_drains):
            super().shutdown()
        else:
            self._draining.set()

    # The peer's side

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(WriteWatch(self.loop.time()))

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def _watch_reader(self, writes: WriteWatch) -> None:
        """Tell a slow reader from one that takes nothing, or has left: while writes wait, reading may wait too."""
        stalled = writes.stall(pending_bytes(self.transport), self.loop.time()) > self.write_stall_s
        if stalled or has_hung_up(self.transport):
            self.transport.abort()
        else:
            self._watch = self.loop.call_later(self.sweep_s, self._watch_reader, writes)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # A close waits for what was written before; only an end that is certain reaches the app.
        self.loop.call_later(self.linger_s, self.transport.abort)

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # dropped: pongs for a peer that reads none would pile up

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= self.max_fragments:
            self._break_off(CloseCode.POLICY_VIOLATION, "too many fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self._break_off(CloseCode.INVALID_DATA, "invalid UTF-8")  # uvicorn does so too, with a trace in the log
        else:
            super().send_receive_event_to_app()

    def _break_off(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()


class _Handshake(ServerProtocol):
    """Refuses a bad handshake in the protocol's JSON."""

    def reject(self, status: StatusLike, text: str) -> Response:  # noqa: ARG002 - it may quote the peer's bytes
        error = InternalError() if status >= 500 else MalformedRequest("This is no WebSocket handshake of version 13.")
        request_id = str(uuid4())
        response = super().reject(status, encode_error(error, request_id).decode())
        del response.headers["Content-Type"]
        response.headers.update({"Content-Type": "application/json", "X-Request-ID": request_id})
        return response


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
