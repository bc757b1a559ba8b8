"""Every route has a row that says whether it needs a key, and does what that says with four kinds of key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
import pytest_asyncio
from starlette.routing import BaseRoute, Route, WebSocketRoute

from dashbelle.app import Service, running
from dashbelle.settings import Settings
from dashbelle.wire.routes import GENERATION_PATH, INFERENCE_PATH, MULTIMODAL_PATH, Application, Endpoint

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = {"model": "echo", "input": {"messages": [{"role": "user", "content": "hi"}]}}
COMPATIBLE = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
FORM_TYPE = "multipart/form-data; boundary=cut"
FORM = b'--cut\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc\r\n--cut--\r\n'
UPGRADE = "UPGRADE"
"""The "method" of a WebSocket route."""


@dataclass(frozen=True)
class Row:
    """One method of one route: how to call it, and its status with a good key."""

    method: str
    path: str
    status: int
    body: Any = None
    content_type: str = "application/json"
    needs_key: bool = True
    place: dict[str, str] = field(default_factory=dict)
    """What to put at the path's `{...}`."""

    @property
    def url(self) -> str:
        return self.path.replace(":path", "").format(**self.place)


def absent(path: str) -> list[Row]:
    return [
        Row(method, path + rest, 404, place={"rest": "ft-1/logs"})
        for method in ("GET", "POST", "PUT", "DELETE")
        for rest in ("", "/{rest:path}")
    ]


ROWS = [
    Row("POST", GENERATION_PATH, 200, CHAT),
    Row("POST", MULTIMODAL_PATH, 200, CHAT),
    Row("POST", "/api/v1/tokenizer", 200, CHAT),
    Row(UPGRADE, INFERENCE_PATH, 101),
    Row("GET", "/api/v1/models", 200),
    Row("GET", "/api/v1/models/{model}", 200, place={"model": "echo"}),
    Row("GET", "/api/v1/tasks", 200),
    Row("GET", "/api/v1/tasks/{task}", 200, place={"task": "1111"}),
    Row("POST", "/api/v1/tasks/{task}/cancel", 400, place={"task": "1111"}),
    Row("GET", "/api/v1/files", 200),
    Row("POST", "/api/v1/files", 200, FORM, FORM_TYPE),
    Row("GET", "/api/v1/files/{file}", 400, place={"file": "nothing"}),
    Row("DELETE", "/api/v1/files/{file}", 400, place={"file": "nothing"}),
    *absent("/api/v1/fine-tunes"),
    *absent("/api/v1/deployments"),
    Row("POST", "/compatible-mode/v1/chat/completions", 200, COMPATIBLE),
    Row("POST", "/api/v1/chat/completions", 200, COMPATIBLE),
    Row("POST", "/compatible-mode/v1/completions", 200, {"model": "echo", "prompt": "hi"}),
    Row("POST", "/compatible-mode/v1/embeddings", 404, {"model": "echo", "input": "hi"}),
    Row("GET", "/compatible-mode/v1/models", 200),
    Row("GET", "/compatible-mode/v1/models/{model}", 200, place={"model": "echo"}),
    *(Row(method, path, 200, needs_key=False)
      for method in ("GET", "HEAD")
      for path in ("/healthz", "/readyz", "/metrics")),
]  # fmt: skip


@dataclass
class Subject:
    """The running app and one key of each kind."""

    app: Application
    secrets: dict[str, str | None]

    async def status(self, row: Row, kind: str) -> tuple[int, str]:
        """Status and body of the row's request with that kind of key."""
        secret = self.secrets[kind]
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        if row.method == UPGRADE:
            return await self._upgrade(row.url, headers)
        if row.body is not None:
            headers["content-type"] = row.content_type
        content = row.body if isinstance(row.body, bytes | None) else json.dumps(row.body).encode()
        transport = httpx2.ASGITransport(app=self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            reply = await client.request(row.method, row.url, content=content, headers=headers)
        return reply.status_code, reply.text

    async def _upgrade(self, path: str, headers: dict[str, str]) -> tuple[int, str]:
        incoming = iter([{"type": "websocket.connect"}])
        sent: list[Any] = []

        async def receive() -> Any:  # noqa: ANN401 - ASGI's
            return next(incoming, {"type": "websocket.disconnect", "code": 1001})

        async def send(message: Any) -> None:  # noqa: ANN401 - ASGI's
            sent.append(message)

        scope = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        await self.app(scope, receive, send)
        if sent[0]["type"] == "websocket.accept":
            return 101, ""
        return sent[0]["status"], "".join(message.get("body", b"").decode() for message in sent[1:])


async def revoked_key(service: Service) -> str:
    secret = await service.keys.create("gone")
    await service.keys.revoke("gone")
    return secret


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def subject(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Subject]:
    home: Path = tmp_path_factory.mktemp("home")
    async with running(Settings(home=home, models=("echo",))) as service:
        secrets = {
            "no": None,
            "wrong": "sk-" + "0" * 64,
            "revoked": await revoked_key(service),
            "good": service.first_key,
        }
        yield Subject(cast(Application, service.asgi), secrets)


def methods_of(route: BaseRoute) -> list[str]:
    if isinstance(route, WebSocketRoute):
        return [UPGRADE]
    endpoint = route.endpoint if isinstance(route, Route) else None
    return endpoint.methods if isinstance(endpoint, Endpoint) else ["ANY"]


async def test_every_route_has_its_row(subject: Subject) -> None:
    served = {(method, getattr(route, "path", "")) for route in subject.app.routes for method in methods_of(route)}
    assert served == {(row.method, row.path) for row in ROWS}
    assert len(ROWS) == len(served)


@pytest.mark.parametrize("kind", ["no", "wrong", "revoked", "good"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
async def test_a_route_answers_the_keys_that_it_should(subject: Subject, row: Row, kind: str) -> None:
    status, body = await subject.status(row, kind)
    if row.needs_key and kind != "good":
        assert status == 401, body
        assert "InvalidApiKey" in body or "invalid_api_key" in body
    else:
        assert status == row.status, body
