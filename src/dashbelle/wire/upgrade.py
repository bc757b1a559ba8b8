"""One WebSocket, from its upgrade request to its close: frames as texts, refusals as HTTP; knows no tasks."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from dashbelle.errors import DashbelleError
from dashbelle.wire.exchange import Exchange, ExchangeLimits
from dashbelle.wire.websocket_front import DRAIN

STATUS_ACCEPTED = 101
GOING_AWAY = 1001
"""Not 1012 (service restart): older OkHttp versions refuse to answer a close with that number."""
INTERNAL_ERROR = 1011


class Upgrade(Exchange):
    """A WebSocket. Before `accept` it can be answered like any request; a 401 then has its reason phrase and JSON.

    Sending to a client that has left does nothing; `receive` tells.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, request_id: str, limits: ExchangeLimits) -> None:
        scope["method"] = "GET"  # as every upgrade; ASGI leaves it out
        super().__init__(scope, receive, self._refuse, request_id=request_id, limits=limits)
        self._send_message = send
        self._extensions = scope.get("extensions") or {}

    async def accept(self) -> None:
        """Complete the upgrade."""
        await self._receive()  # the connect event
        self.status = STATUS_ACCEPTED
        headers = [(b"x-request-id", self.request_id.encode())]
        await self._send_message({"type": "websocket.accept", "headers": headers})

    async def receive_frame(self) -> str | bytes | None:
        """The next message, text or binary; None once the connection has ended."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send_frame(self, text: bytes) -> None:
        """Send UTF-8 as a text message; waits while the client reads too slowly."""
        await self._send_message({"type": "websocket.send", "text": text.decode()})

    async def close(self, code: int) -> None:
        """Begin the end; `receive_frame` then gives None."""
        await self._send_message({"type": "websocket.close", "code": code, "reason": ""})

    async def drain_began(self) -> None:
        """Return when the server drains and waits for this connection to close; never, if it does not tell."""
        extension = self._extensions.get(DRAIN)
        await (extension["began"]() if extension else asyncio.Event().wait())

    async def fail(self, error: DashbelleError) -> None:
        """Refuse the upgrade with `error`, or, behind it, close."""
        if self.status == STATUS_ACCEPTED:
            self.error_code = error.code
            await self.close(INTERNAL_ERROR)
        else:
            await super().fail(error)

    async def _refuse(self, message: Message) -> None:
        """Send a part of an HTTP response; a server that cannot do so closes, which clients see as a 403."""
        if "websocket.http.response" in self._extensions:
            await self._send_message({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await self._send_message({"type": "websocket.close", "code": 1000, "reason": ""})
