"""/api/v1/tasks: nothing here runs as a task, and these routes say so in the protocol's own words."""

from __future__ import annotations

import msgspec

from dashbelle.errors import UnsupportedOperation
from dashbelle.vocabulary import Caller
from dashbelle.wire.exchange import Exchange
from dashbelle.wire.pages import page_of


async def list_tasks(exchange: Exchange, _caller: Caller) -> None:
    """GET /tasks: an empty page, flat as the cloud's. Raises InvalidParameter."""
    page = page_of(exchange.query)
    reply = {
        "total": 0,
        "data": [],
        "total_page": 0,
        "page_no": page.number,
        "request_id": exchange.request_id,
        "page_size": page.size,
    }
    await exchange.answer(200, msgspec.json.encode(reply))


async def show_task(exchange: Exchange, _caller: Caller) -> None:
    """GET /tasks/{task}: UNKNOWN, with 200 as in the cloud, whatever the id."""
    output = {"task_id": exchange.path_part("task"), "task_status": "UNKNOWN"}
    await exchange.answer(200, msgspec.json.encode({"request_id": exchange.request_id, "output": output}))


async def cancel_task(exchange: Exchange, _caller: Caller) -> None:
    """POST /tasks/{task}/cancel. Raises UnsupportedOperation, as the cloud does for a task that is not pending."""
    await exchange.read_body()
    raise UnsupportedOperation
