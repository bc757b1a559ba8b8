"""/api/v1/tasks: there are none, said in the words of the cloud's recorded replies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asgi_client import AUTHORIZED, Gateway, Reply, error_of

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
RECORDED = ROOT.parent / "shared" / "data" / "recorded"
PATH = "/api/v1/tasks"


async def ask(method: str, path: str, query: str = "") -> Reply:
    return await Gateway().request(method, path, AUTHORIZED, query)


def recorded(name: str) -> dict[str, Any]:
    if not RECORDED.is_dir():
        pytest.skip("recorded replies of the cloud are not on this machine")
    value: dict[str, Any] = json.loads((RECORDED / name).read_text("utf-8-sig"))
    return value


async def test_every_task_is_unknown_with_200() -> None:
    reply = await ask("GET", f"{PATH}/1111")
    assert (reply.status, reply.body) == (200, (GOLDEN / "tasks-unknown.json").read_bytes())


async def test_no_task_can_be_cancelled() -> None:
    reply = await ask("POST", f"{PATH}/1111/cancel")
    assert (reply.status, reply.body) == (400, (GOLDEN / "tasks-cancel.json").read_bytes())
    with_body = await Gateway().post({}, path=f"{PATH}/1111/cancel")
    assert with_body.body == reply.body
    assert "connection" not in with_body.headers


async def test_the_list_is_a_flat_empty_page() -> None:
    reply = await ask("GET", PATH, "page_no=1&page_size=10&status=RUNNING&model_name=x")
    assert (reply.status, reply.body) == (200, (GOLDEN / "tasks-list.json").read_bytes())
    other = (await ask("GET", PATH, "page_no=3&page_size=50")).json
    assert (other["page_no"], other["page_size"]) == (3, 50)
    assert error_of(await ask("GET", PATH, "page_no=x"))[:2] == (400, "InvalidParameter")


async def test_recorded_replies_have_the_same_form() -> None:
    unknown = recorded("get-task-unknown-nosse.response.body.txt")
    reply = (await ask("GET", f"{PATH}/{unknown['output']['task_id']}")).json
    assert list(reply) == list(unknown)
    assert reply["output"] == unknown["output"]
    refused = recorded("cancel-completed-task-nosse.response.body.txt")
    cancelled = (await ask("POST", f"{PATH}/1111/cancel")).json
    assert {**cancelled, "request_id": ""} == {**refused, "request_id": ""}
    listed = recorded("list-task-nosse.response.body.txt")
    assert list((await ask("GET", PATH)).json) == list(listed)


async def test_an_id_is_shown_as_it_was_given_and_breaks_nothing() -> None:
    assert (await ask("GET", f'{PATH}/"}},\n你')).json["output"]["task_id"] == '"},\n你'
