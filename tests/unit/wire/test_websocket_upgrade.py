"""From an upgrade request to an accepted socket, or to a refusal that is an HTTP response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from asgi_client import AUTHORIZED, KEY, REQUEST_ID, Gateway, ScriptedPipeline
from asgi_socket import Socket, run_task

from dashbelle.errors import DashbelleError, InternalError, InvalidApiKey, LedgerUnavailable, NotFound
from dashbelle.vocabulary import Caller
from dashbelle.wire.routes import INFERENCE_PATH


class Unable(ScriptedPipeline):
    """Cannot look up keys, for one reason."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self._reason = reason

    async def identify(self, _secret: str | None) -> Caller:
        raise self._reason


async def refusal(
    app: Gateway, headers: Mapping[str, str] = AUTHORIZED, path: str = INFERENCE_PATH
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and body of a refused upgrade."""
    socket = Socket()
    await app.app(socket.scope(headers, path), socket.receive, socket.send)
    start, body = socket.sent.get_nowait(), socket.sent.get_nowait()
    assert socket.sent.empty()
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    assert not body["more_body"]
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    assert fields["content-length"] == str(len(body["body"]))
    return start["status"], fields, json.loads(body["body"])


async def assert_refused(app: Gateway, error: DashbelleError, **how: Any) -> None:  # noqa: ANN401 - passed on
    status, fields, body = await refusal(app, **how)
    assert status == error.status
    assert fields["content-type"] == "application/json"
    assert body == {"code": error.code, "message": error.message, "request_id": REQUEST_ID}
    assert fields["x-request-id"] == REQUEST_ID
    assert (app.log_lines[-1]["status"], app.log_lines[-1]["code"]) == (error.status, error.code)


@pytest.mark.parametrize("path", ["/api-ws/v1/inference", "/api-ws/v1/inference/", "//api-ws/v1//inference"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_a_good_key_is_accepted_in_each_spelling(path: str, scheme: str) -> None:
    app = Gateway()
    socket = Socket()
    headers = {"authorization": f"{scheme} {KEY}"}
    running = asyncio.create_task(app.app(socket.scope(headers, path), socket.receive, socket.send))
    accepted = await socket.sent.get()
    assert accepted == {"type": "websocket.accept", "headers": [(b"x-request-id", REQUEST_ID.encode())]}
    socket.hang_up()
    await running
    (line,) = app.log_lines
    assert (line["method"], line["status"], line["key"]) == ("GET", 101, "ada")


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sk-wrong"}, {"authorization": f"Basic {KEY}"}])
async def test_a_bad_key_is_a_401(headers: dict[str, str]) -> None:
    await assert_refused(Gateway(), InvalidApiKey(), headers=headers)


async def test_an_unknown_path_is_a_404() -> None:
    await assert_refused(Gateway(), NotFound(), path="/api-ws/v1/realtime")


async def test_keys_that_cannot_be_looked_up_are_a_503() -> None:
    await assert_refused(Gateway(Unable(LedgerUnavailable())), LedgerUnavailable())


async def test_an_unforeseen_error_before_the_upgrade_is_a_500() -> None:
    app = Gateway(Unable(ZeroDivisionError("for the log only")))
    await assert_refused(app, InternalError())
    assert "for the log only" in app.log_lines[0]["exception"]


async def test_a_server_without_the_extension_closes_instead() -> None:
    socket = Socket()
    scope = socket.scope({}) | {"extensions": None}
    await Gateway().app(scope, socket.receive, socket.send)
    assert socket.sent.get_nowait() == {"type": "websocket.close", "code": 1000, "reason": ""}
    assert socket.sent.empty()


async def test_an_unforeseen_error_behind_the_upgrade_closes_the_socket() -> None:
    class Broken(Socket):
        """Its second message cannot be read."""

        async def receive(self) -> Any:  # noqa: ANN401 - an ASGI message
            return await super().receive() if self.reads == 0 else {"type": "nonsense"}

    app = Gateway()
    socket = Broken()
    await app.app(socket.scope(AUTHORIZED), socket.receive, socket.send)
    assert [socket.sent.get_nowait()["type"] for _ in range(2)] == ["websocket.accept", "websocket.close"]
    assert app.log_lines[0]["event"] == "unforeseen error"


async def test_a_server_that_tells_of_no_drain_is_served_all_the_same() -> None:
    socket = Socket()
    scope = socket.scope(AUTHORIZED) | {"extensions": {}}
    running = asyncio.create_task(Gateway().app(scope, socket.receive, socket.send))
    await socket.sent.get()
    socket.say(run_task())
    assert len(await socket.answer()) == 3
    socket.hang_up()
    await running
