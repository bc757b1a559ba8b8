"""The engine's process dies or freezes under load: all callers are told, each call is metered once, service returns."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier

import httpx2
import pytest
from native_client import ENDLESS, LONG_STORY, Event, NativeClient

from running_server import RunningServer, StartServer, is_alive, wait_until

STREAMS, WHOLE = 8, 2
BACK_S = 40.0
"""The engine is back within 3 seconds when nothing else runs."""


@pytest.mark.item(71)
def test_a_killed_engine_is_told_to_every_caller_metered_once_and_replaced(start_server: StartServer) -> None:
    server = start_server()
    (worker,) = server.worker_pids()
    begun = Barrier(STREAMS + 1)
    with ThreadPoolExecutor(STREAMS + WHOLE) as pool:
        streams = [pool.submit(stream_to_the_end, server, begun) for _ in range(STREAMS)]
        whole = [pool.submit(NativeClient(server).ask, LONG_STORY, **ENDLESS) for _ in range(WHOLE)]
        wait_until(lambda: server.metric("dashbelle_slots_busy") == STREAMS + WHOLE, 30, "ten running calls")
        begun.wait(30)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.ready_status() == 503, BACK_S, "503 from /readyz")
    wait_until(lambda: server.ready_status() == 200, BACK_S, "200 from /readyz")
    assert not is_alive(worker)
    failed = {check_stream(stream) for stream in streams} | {check_reply(reply) for reply in whole}
    assert len(failed) == STREAMS + WHOLE
    answered = NativeClient(server).answer("Hello!", max_tokens=1)["request_id"]
    rows = [(row["request_id"], row["end_reason"]) for row in server.usage()]
    assert sorted(rows) == sorted([*((request_id, "error") for request_id in failed), (answered, "length")])
    assert server.metric("dashbelle_worker_restarts") == 1
    assert "Traceback" not in server.stderr


def test_a_frozen_engine_is_noticed_ended_and_replaced(start_server: StartServer) -> None:
    server = start_server(settings={"engine_stall_s": "2"})
    (worker,) = server.worker_pids()
    with NativeClient(server).stream(LONG_STORY, **ENDLESS) as stream:
        next(stream)
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: server.ready_status() == 503, BACK_S, "503 from /readyz")
        assert is_alive(worker)
        last = stream.last()
    assert (last.kind, last.status, last.data["code"]) == ("error", 500, "InternalError.Timeout")
    wait_until(lambda: server.ready_status() == 200, BACK_S, "200 from /readyz")
    assert not is_alive(worker)
    assert NativeClient(server).ask("Hello!", max_tokens=1).status_code == 200
    assert [row["end_reason"] for row in server.usage()] == ["error", "length"]


def stream_to_the_end(server: RunningServer, begun: Barrier) -> tuple[str, list[Event]]:
    """The request id and every event of one long stream; behind the first one it waits for the others."""
    with NativeClient(server).stream(LONG_STORY, **ENDLESS) as stream:
        first = next(stream)
        begun.wait(30)
        return stream.request_id, [first, *stream]


def check_stream(stream: Future[tuple[str, list[Event]]]) -> str:
    """Whose stream it was, once it is sure that it ended with the error event and with nothing else."""
    request_id, (*before, last) = stream.result()
    assert before
    assert {event.kind for event in before} == {"result"}
    assert {event.finish for event in before} == {"null"}
    assert (last.kind, last.status) == ("error", 500)
    assert last.data == {"code": "InternalError", "message": INTERNAL_ERROR, "request_id": request_id}
    return request_id


def check_reply(reply: Future[httpx2.Response]) -> str:
    """The same for a call without a stream."""
    response = reply.result()
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/json"
    request_id = response.headers["x-request-id"]
    assert response.json() == {"code": "InternalError", "message": INTERNAL_ERROR, "request_id": request_id}
    return str(request_id)


INTERNAL_ERROR = "An internal error has occured, please try again later or contact service support."
