"""/api-ws/v1/inference of a real `dashbelle serve`: refusals, tasks, the ledger, hang-ups and the drain."""

from __future__ import annotations

import itertools
import json
import signal
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from websocket_peer import PING, PONG, Peer, frame

from running_server import RunningServer, StartServer, wait_until

PATH = "/api-ws/v1/inference"
LONG_PROMPT = "x" * 3000
"""Said again letter by letter, cumulatively: several MB, which no kernel buffers for a peer that does not read."""
FREE_S = 2.0
"""Promised is one second; the other is for a busy machine."""


def port_of(server: RunningServer) -> int:
    return int(urlsplit(server.url).port or 0)


class Client(Peer):
    """A socket for tasks."""

    def __init__(self, server: RunningServer, path: str = PATH, **how: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(port_of(server), **how)
        self.upgrade(path, Authorization=f"bearer {server.key}")

    def run(self, task_id: str, streaming: str = "none", **changes: object) -> None:
        header = {"action": "run-task", "task_id": task_id, "streaming": streaming}
        self.say(json.dumps({"header": header, "payload": {"model": "echo", "input": {"prompt": "hi"}} | changes}))

    def event(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.text())
        return value

    def answer(self) -> list[dict[str, Any]]:
        """Every event of the one running task."""
        events = [self.event()]
        while events[-1]["header"]["event"] not in {"task-finished", "task-failed"}:
            events.append(self.event())
        return events


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["header"]["event"] for event in events]


@pytest.mark.parametrize("authorization", [None, "Bearer sk-wrong"])
@pytest.mark.item(83)
def test_a_bad_key_is_a_401_with_its_reason_and_json(echo_server: RunningServer, authorization: str | None) -> None:
    with Peer(port_of(echo_server)) as peer:
        response = peer.ask(PATH, Authorization=authorization)
        assert peer.is_closed_within(2)
    # The Java SDK looks for these very words, and tries again for half a minute otherwise.
    assert response.status_line == "HTTP/1.1 401 Unauthorized"
    assert response.headers["content-type"] == "application/json"
    assert response.json["code"] == "InvalidApiKey"
    assert response.headers["x-request-id"] == response.json["request_id"]
    wait_until(lambda: response.json["request_id"] in echo_server.stderr, 5, "line in the log")
    assert '"level": "error"' not in echo_server.stderr


@pytest.mark.parametrize("path", [PATH, PATH + "/"])
@pytest.mark.item(83, 84, 85, 87)
def test_tasks_follow_each_other_on_one_socket(echo_server: RunningServer, path: str) -> None:
    with Client(echo_server, path) as client:
        for task_id in ("0f4c2c1e7d1f4b7e8f0a1c2d3e4f5a6b", "0f4c2c1e-7d1f-4b7e-8f0a-1c2d3e4f5a6b"):
            client.run(task_id)
            events = client.answer()
            assert names(events) == ["task-started", "result-generated", "task-finished"]
            assert {event["header"]["task_id"] for event in events} == {task_id}
            assert events[1]["payload"]["output"] == {"finish_reason": "stop", "text": "hi"}
            assert events[2]["payload"] == {}
        client.run("s", "out", input={"prompt": "你好"})
        texts = [event["payload"]["output"]["text"] for event in client.answer()[1:-1]]
        assert texts[-1] == "你好"
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


@pytest.mark.item(86, 87)
def test_failures_leave_the_socket_open(echo_server: RunningServer) -> None:
    with Client(echo_server) as client:
        client.run("a", model="nobody")
        assert client.answer()[-1]["header"]["error_code"] == "ModelNotFound"
        client.run("b", parameters={"top_p": 7})
        assert client.answer()[-1]["header"]["error_message"] == "Range of top_p should be (0.0, 1.0]"
        client.say("{")
        assert client.answer()[-1]["header"]["error_code"] == "InvalidParameter"
        client.send(frame(PING, b"still there?"))
        assert client.receive() == (PONG, b"still there?")
        client.run("c")
        assert names(client.answer())[-1] == "task-finished"


def test_a_task_is_found_in_the_ledger_by_the_id_of_the_server(echo_server: RunningServer) -> None:
    with Client(echo_server) as client:
        client.run("my-own-id")
        started, *_ = client.answer()
    rows = echo_server.usage()
    (row,) = [row for row in rows if row["request_id"] == started["header"]["attributes"]["x-request-id"]]
    assert (row["input_tokens"], row["output_tokens"], row["end_reason"]) == (2, 2, "stop")
    assert "my-own-id" not in {row["request_id"] for row in rows}


def test_a_message_over_the_limit_of_bodies_is_refused(start_server: StartServer) -> None:
    server = start_server("--model", "echo", settings={"max_body_bytes": "5000"})
    with Client(server) as client:
        client.run("a", input={"prompt": "x" * 5000})
        assert client.close_code() == 1009


def test_a_client_that_hangs_up_frees_its_slots(start_server: StartServer) -> None:
    server = start_server("--model", "echo")
    with Client(server) as client:
        for task_id in ("a", "b"):
            client.run(task_id, "out", input={"prompt": LONG_PROMPT})
        wait_until(lambda: server.metric("dashbelle_slots_busy") == 2, 10, "running tasks")
        time.sleep(0.2)
    wait_until(lambda: server.metric("dashbelle_slots_busy") == 0, FREE_S, "free slot")
    assert [row["end_reason"] for row in server.usage()] == ["client_gone"] * 2


def test_a_drain_ends_idle_sockets_at_once(start_server: StartServer) -> None:
    server = start_server("--model", "echo")
    with Client(server) as idle:
        begun = time.monotonic()
        server.signal(signal.SIGINT)
        assert idle.close_code() == 1001
        assert time.monotonic() - begun < 1
    assert server.wait() == 0
    assert time.monotonic() - begun < 5


def test_a_drain_ends_running_tasks_with_an_event_and_then_the_socket(start_server: StartServer) -> None:
    server = start_server("--model", "echo", settings={"drain_s": "1"})
    with Client(server) as client:
        client.run("a", "out", input={"prompt": LONG_PROMPT})
        wait_until(lambda: server.metric("dashbelle_slots_busy") == 1, 10, "running task")
        time.sleep(0.2)
        server.signal(signal.SIGINT)
        time.sleep(0.2)
        assert names(client.answer())[-1] in {"task-finished", "task-failed"}
        assert client.close_code() == 1001
    assert server.wait() == 0
    (row,) = server.usage()
    assert row["end_reason"] in {"stop", "length", "drain"}
