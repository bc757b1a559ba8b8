"""The hardened HTTP/1 protocol under the ASGI app: deadlines, bounds, strict heads, hang-ups; knows no routes."""

# Internals of uvicorn that this class leans on (seen in 0.30.6, 0.40.0 and 0.54.0). After an upgrade read its
# protocols/http/httptools_impl.py against this list, and run tests/contract/front on it.
#   HttpToolsProtocol  attributes transport, flow, loop, logger, parser, cycle, pipeline, url, headers, connections,
#                      config, server_state, expect_100_continue; `cycle` is the newest request, None before the first;
#                      `pipeline` holds (cycle, app), newest at the left, and never the running one
#     methods          on_headers_complete makes the cycle, starts or queues it and then pauses reading;
#                      on_response_complete pops the next; connection_lost tells `cycle` alone; _should_upgrade asks,
#                      handle_websocket_upgrade hands the transport over; _unset_keepalive_if_required
#   RequestResponseCycle  disconnected (silences send, ends receive), message_event, keep_alive (read at the last body
#                      message), more_body, response_started, scope; uses only write, close, is_closing of `transport`
#   FlowControl        pause_reading, resume_reading, read_paused, resume_writing
#   ServerState        connections (WebSockets too), total_requests; can be weakly referenced
# And on httptools >= 0.6.3: the parser of older ones joins folded fields and takes spaces in their names.

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from uuid import uuid4
from weakref import WeakSet

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from dashbelle.errors import HeadersTooLarge, MalformedRequest, Refused, RequestTooSlow, TooManyConnections
from dashbelle.wire.heads import Head, refusal
from dashbelle.wire.intake import Intake, Limits, Phase
from dashbelle.wire.sockets import Outlet, WriteWatch, end_when_unacknowledged, has_hung_up, pending_bytes

__all__ = ["GuardedHttp", "Limits", "guarded"]


class GuardedHttp(HttpToolsProtocol):
    """One connection. Give it to uvicorn as `http=`; `guarded` makes one with other limits.

    Errors of its own are the protocol's JSON and end the connection. The app learns of a hang-up (a half-close
    counts) by `http.disconnect` in every phase, also when more requests wait behind the running one.
    """

    limits: ClassVar[Limits] = Limits()
    _swept: ClassVar[WeakSet[ServerState]] = WeakSet()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._intake = Intake(self.limits, self.loop.time())
        self._outlet = Outlet(self)
        self._writes = WriteWatch(self.loop.time())
        self._running: RequestResponseCycle | None = None
        self._ahead_bytes = 0
        self._is_deaf = False
        """Refused behind a running response: its end is the connection's end."""
        self._is_closing = False
        self._linger: asyncio.TimerHandle | None = None

    # The connection's life

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn narrows it so
        super().connection_made(transport)
        end_when_unacknowledged(transport, self.limits.write_stall_s)
        if self.server_state not in self._swept:
            self._swept.add(self.server_state)
            self.loop.call_later(self.limits.sweep_s, self._sweep, self.server_state, self.loop)
        if len(self.connections) > self.limits.connections:
            self.connections.discard(self)  # what was refused must not keep others out while it lingers
            self._refuse(TooManyConnections(retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.is_closing:
            return
        if self._is_deaf:
            self._take_ahead(len(data))
            return
        self._intake.hear(len(data), self.loop.time())
        self._feed(data)

    def eof_received(self) -> None:
        self._lose_client()
        self._is_closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self._lose_client()
        self._is_closing = True
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server drains: the running response ends, nothing begins behind it."""
        if self._running is None:
            self.close()
        else:
            self._running.keep_alive = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, watched for a reader that takes nothing."""
        self._writes.count(len(data))
        self.transport.write(data)

    def close(self) -> None:
        """Close in two steps: our side now, the rest when the client is done or `linger_s` is over."""
        if self.is_closing:
            return
        self._is_closing = True
        if not self.transport.can_write_eof():  # TLS has no half-close
            self.transport.close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._linger = self.loop.call_later(self.limits.linger_s, self.transport.close)

    @property
    def is_closing(self) -> bool:
        """Whether nothing more is parsed or sent."""
        return self._is_closing or self.transport.is_closing()

    def _refuse(self, error: Refused) -> None:
        """Answer the message being received with `error` and close; behind a running response, close after it."""
        running, is_body = self._running, self._intake.phase is Phase.BODY
        if running is not None and not (is_body and running is self.cycle):
            self._is_deaf = True
            running.keep_alive = False
            return
        self._lose_client()  # its body is broken, the app can do no more for it
        if not (is_body and self.cycle.response_started):
            self.logger.debug("Refused a request: %d %s", error.status, error.code)
            self.write(refusal(error, str(uuid4())))
        self.close()

    def _lose_client(self) -> None:
        """Tell the running request's app, wherever it waits, and forget what is queued behind."""
        running, self._running = self._running, None
        self.pipeline.clear()
        if running is not None:
            running.disconnected = True
            running.message_event.set()
        self.flow.resume_writing()

    # Parsing: a callback that raises Refused ends it

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
            self._intake.check_overhead()
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except HeadersTooLarge as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refused) else MalformedRequest())

    def _upgrade(self, rest: bytes) -> None:
        if not self._should_upgrade():
            # The parser drops the body behind any Upgrade (every JDK HttpClient sends h2c): read it again without.
            head = self._head().without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self._feed(head + rest)
        elif self._running is not None:
            self._refuse(MalformedRequest())
        else:
            self.handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        head = self._head()
        return head.method == b"GET" and head.version == "1.1" and head.body_bytes == 0 and super()._should_upgrade()

    def _head(self) -> Head:
        return Head(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)

    def on_message_begin(self) -> None:
        self._intake.begin()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._intake.count_url(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._intake.count_field(name, value)
        if self._intake.phase is Phase.HEAD:  # else a trailer: never merged, or an Authorization there would count
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        head = self._head()
        if not head.is_sound:
            raise MalformedRequest
        self._intake.end_head(head.body_bytes)
        if len(self.pipeline) >= self.limits.pipelined:
            raise MalformedRequest("Too many requests are queued on this connection.")
        is_upgrade = self.parser.should_upgrade()
        if is_upgrade and not self._should_upgrade():
            return
        self.expect_100_continue = self.expect_100_continue and head.version == "1.1"
        super().on_headers_complete()
        if not is_upgrade:
            self._hand_on(self.cycle)

    def _hand_on(self, cycle: RequestResponseCycle) -> None:
        """The request is whole but for its body, and runs, or is queued behind the running one."""
        self._intake.begin_body()
        cycle.transport = self._outlet
        cycle.keep_alive = cycle.keep_alive and self.parser.should_keep_alive()
        if not self.pipeline:
            self._running = cycle
            return
        self._take_ahead(self._intake.head_bytes)

    def _take_ahead(self, size: int) -> None:
        """Input behind a running response: read on, since only reading shows a hang-up at once, but not for ever."""
        self._ahead_bytes += size
        if self._ahead_bytes > self.limits.ahead_bytes:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def on_chunk_header(self) -> None:
        self._intake.count_chunk()

    def on_body(self, body: bytes) -> None:
        self._intake.count_body(len(body))
        super().on_body(body)
        if self.pipeline:
            self._take_ahead(len(body))

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._intake.end()

    def on_response_complete(self) -> None:
        done, self._running = self._running, self.pipeline[-1][0] if self.pipeline else None
        if done is not None and done.more_body and b"expect" in dict(done.scope["headers"]):
            self.close()  # nobody can tell whether the body will still come
        if len(self.pipeline) <= 1:
            self._ahead_bytes = 0
        if self.is_closing:
            self._running = None
            self.server_state.total_requests += 1
        else:
            super().on_response_complete()

    # The sweep: one timer for all connections, none when there are no connections

    @classmethod
    def _sweep(cls, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        fronts = [connection for connection in state.connections if isinstance(connection, GuardedHttp)]
        if not fronts:
            cls._swept.discard(state)
            return
        loop.call_later(cls.limits.sweep_s, cls._sweep, state, loop)
        for front in fronts:
            front.check(loop.time())

    def check(self, now: float) -> None:
        """Enforce the deadlines as of `now`, on the loop's clock."""
        if self._writes.stall(pending_bytes(self.transport), now) > self.limits.write_stall_s:
            self.transport.abort()
        elif self.is_closing:
            return
        elif self.flow.read_paused:
            self._intake.stand_still(now)
            if has_hung_up(self.transport):
                self._lose_client()
                self.transport.abort()
        elif self._intake.is_late(now) and not self._is_deaf:
            self._refuse(RequestTooSlow())
        elif self.cycle is None and self._intake.is_unused(now, self.config.timeout_keep_alive):
            self.close()  # uvicorn's own keep-alive timer starts at the first response


def guarded(limits: Limits) -> type[GuardedHttp]:
    """The same protocol class with other limits."""
    return type("GuardedHttp", (GuardedHttp,), {"limits": limits})
