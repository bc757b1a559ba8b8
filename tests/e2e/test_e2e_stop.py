"""How a server ends: what runs ends whole, what waits or comes later is refused in the protocol's form."""

from __future__ import annotations

import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from native_client import ENDLESS, LONG_STORY, PATH, NativeClient

from running_server import RunningServer, StartServer, is_alive, wait_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_running_stream_ends_whole_while_waiting_and_late_calls_are_refused(
    start_server: StartServer, number: signal.Signals
) -> None:
    server = start_server(settings={"slots": "1"})
    client = NativeClient(server)
    (worker,) = server.worker_pids()
    with (
        ThreadPoolExecutor() as pool,
        client.stream(LONG_STORY, **{**ENDLESS, "max_tokens": 150}) as stream,
        late_call(server) as late,
    ):
        next(stream)
        queued = pool.submit(client.ask, LONG_STORY)
        wait_until(lambda: server.metric("dashbelle_calls_waiting") == 1, 10, "call in the waiting line")
        server.signal(number)
        wait_until(lambda: refuses_connections(server), 10, "closed listener")
        late.sendall(BODY[-1:])
        events = list(stream)
        refusals = queued.result().text, late.makefile("rb").read().decode()
    assert len(events) > 1
    assert all(event.kind == "result" for event in events)
    assert events[-1].finish == "length"
    assert queued.result().status_code == 503
    assert refusals[1].startswith("HTTP/1.1 503 ")
    assert all('{"code":"ModelUnavailable","message":"' in refusal for refusal in refusals)
    assert_ended_well(server, worker)
    assert [row["end_reason"] for row in server.usage()] == ["drain", "length"]


@pytest.mark.item(75)
def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event_and_is_settled(start_server: StartServer) -> None:
    server = start_server(settings={"drain_s": "1"})
    (worker,) = server.worker_pids()
    with NativeClient(server).stream(LONG_STORY, **ENDLESS) as stream:
        next(stream)
        server.signal(signal.SIGINT)
        last = stream.last()
    assert (last.kind, last.status, last.data["code"]) == ("error", 503, "ModelUnavailable")
    assert_ended_well(server, worker)
    (row,) = server.usage()
    assert (row["request_id"], row["end_reason"]) == (stream.request_id, "drain")
    assert row["output_tokens"] > 0


def test_a_second_interrupt_ends_at_once_and_leaves_no_call_unsettled(start_server: StartServer) -> None:
    server = start_server()
    try:
        with NativeClient(server).stream(LONG_STORY, **ENDLESS) as stream:
            next(stream)
            interrupt_twice(server)
            wait_until(lambda: server.exit_code is not None, 5, "end")
    finally:
        server.kill()
    assert [row["end_reason"] for row in server.usage()] == ["drain"]
    assert "Traceback" not in server.stderr


def interrupt_twice(server: RunningServer) -> None:
    """Ctrl-C, and once more when it has taken effect."""
    server.signal(signal.SIGINT)
    wait_until(lambda: refuses_connections(server), 10, "closed listener")
    assert server.exit_code is None
    server.signal(signal.SIGINT)


def assert_ended_well(server: RunningServer, worker: int) -> None:
    """Exit code 0, a word to the user, nothing left behind."""
    assert server.wait() == 0
    assert not is_alive(worker)
    assert server.stdout.endswith("Stopped.\n")
    assert "Traceback" not in server.stderr


BODY = b'{"model": "belle-llama-13b-2m-v1", "input": {"prompt": "Hello!"}}'


def late_call(server: RunningServer) -> socket.socket:
    """A connection on which all of a call but its last byte was sent."""
    address = urlsplit(server.url)
    head = [
        f"POST {PATH} HTTP/1.1",
        f"Host: {address.netloc}",
        f"Authorization: Bearer {server.key}",
        f"Content-Length: {len(BODY)}",
    ]
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60)
    connection.sendall("\r\n".join([*head, "", ""]).encode() + BODY[:-1])
    return connection


def refuses_connections(server: RunningServer) -> bool:
    """Whether nobody listens at its address any more."""
    address = urlsplit(server.url)
    with socket.socket() as probe:
        return probe.connect_ex((str(address.hostname), int(address.port or 0))) != 0
