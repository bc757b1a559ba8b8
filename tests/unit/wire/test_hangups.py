"""A client that leaves ends its call, in whatever phase that is, and no other cancellation is taken for a hang-up."""

from __future__ import annotations

import asyncio

import pytest
from asgi_client import Connection, Gateway, ScriptedPipeline, generation, request_of
from starlette.types import Message as ASGIMessage

from dashbelle.vocabulary import Delta

SSE = {"x-dashscope-sse": "enable"}
HELLO = (Delta("你", 1), Delta("好", 1), Delta("", 0, "stop"))

FOREVER = asyncio.Event
PHASES = {
    "queued": lambda: ScriptedPipeline(*HELLO, entry=FOREVER()),
    "before the first delta": lambda: ScriptedPipeline(FOREVER(), *HELLO),
    "between two deltas": lambda: ScriptedPipeline(HELLO[0], FOREVER(), *HELLO[1:]),
}


@pytest.mark.parametrize("headers", [{}, SSE])
@pytest.mark.parametrize("phase", PHASES)
async def test_a_client_that_hangs_up_ends_its_call(phase: str, headers: dict[str, str]) -> None:
    app = Gateway(PHASES[phase]())
    connection, scope = request_of(generation(), headers)
    running = asyncio.create_task(app.run(connection, scope))
    await app.pipeline.reached.wait()
    assert app.pipeline.open_calls == 1
    connection.hang_up.set()
    await running
    assert (app.pipeline.cancelled, app.pipeline.open_calls) == (1, 0)
    assert not connection.reply.ended
    (line,) = app.log_lines
    assert line["client_gone"] is True
    assert line["status"] == (200 if connection.reply.status else 499)


async def test_a_client_that_hangs_up_while_events_cannot_be_sent_ends_its_call() -> None:
    class Stuck(Connection):
        """Takes the head and nothing more."""

        async def send(self, message: ASGIMessage) -> None:
            if message["type"] == "http.response.body":
                stuck.set()
                await asyncio.Event().wait()
            await super().send(message)

    stuck = asyncio.Event()
    app = Gateway(ScriptedPipeline(*HELLO))
    connection, scope = request_of(generation(), SSE)
    reader = Stuck(connection.unread)
    running = asyncio.create_task(app.run(reader, scope))
    await stuck.wait()
    reader.hang_up.set()
    await running
    assert app.pipeline.open_calls == 0


async def test_a_cancelled_server_task_is_not_mistaken_for_a_hang_up() -> None:
    app = Gateway(PHASES["between two deltas"]())
    connection, scope = request_of(generation(), SSE)
    running = asyncio.create_task(app.run(connection, scope))
    await app.pipeline.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert app.pipeline.open_calls == 0
