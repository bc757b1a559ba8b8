"""Clients that hang up in every phase: their slot is free at once, and the ledger says who left."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from native_client import BELLE, ENDLESS, LONG_STORY, PATH, NativeClient

from running_server import RunningServer, make_home, wait_until

FREE_S = 2.0
"""Promised is one second from the hang-up until the slot is free; the other is for the next call to be answered."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[RunningServer]:
    """A server with a single slot."""
    server = RunningServer(make_home(tmp_path_factory.mktemp("narrow"), engine_cache), settings={"slots": "1"}).start()
    yield server
    server.stop()


@pytest.mark.item(72)
def test_a_client_that_leaves_its_stream_frees_the_slot(narrow: RunningServer) -> None:
    with NativeClient(narrow).stream(LONG_STORY, **ENDLESS) as stream:
        next(stream)
        next(stream)
    assert_slot_is_free(narrow)
    (row,) = [row for row in narrow.usage() if row["request_id"] == stream.request_id]
    assert row["end_reason"] == "client_gone"
    assert row["input_tokens"] > 0
    assert 2 <= row["output_tokens"] < ENDLESS["max_tokens"]


@pytest.mark.item(72)
def test_a_client_that_leaves_a_call_without_stream_frees_the_slot(narrow: RunningServer) -> None:
    before = len(narrow.usage())
    with unanswered_call(narrow):
        wait_until(lambda: narrow.metric("dashbelle_slots_busy") == 1, 10, "running call")
    assert_slot_is_free(narrow)
    assert [row["end_reason"] for row in narrow.usage()[before:]] == ["client_gone", "length"]


def test_a_client_that_leaves_the_waiting_line_is_not_served_and_not_charged(narrow: RunningServer) -> None:
    before = len(narrow.usage())
    with NativeClient(narrow).stream(LONG_STORY, **ENDLESS) as running:
        next(running)
        with unanswered_call(narrow):
            wait_until(lambda: narrow.metric("dashbelle_calls_waiting") == 1, 10, "waiting call")
        wait_until(lambda: narrow.metric("dashbelle_calls_waiting") == 0, FREE_S, "empty line")
        (row,) = narrow.usage()[before:]
        next(running)
    assert (row["end_reason"], row["input_tokens"], row["output_tokens"]) == ("client_gone", 0, 0)
    assert_slot_is_free(narrow)


def assert_slot_is_free(server: RunningServer) -> None:
    """The next call is answered at once; it would have to wait for half a minute else."""
    left_at = time.monotonic()
    NativeClient(server).answer("Hello!", max_tokens=1)
    assert time.monotonic() - left_at < FREE_S


def unanswered_call(server: RunningServer) -> socket.socket:
    """A connection with a long call on it whose answer nobody reads; closing it hangs up."""
    address = urlsplit(server.url)
    body = json.dumps({"model": BELLE, "input": {"prompt": LONG_STORY}, "parameters": ENDLESS}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {server.key}\r\n"
    connection = socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=60)
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection
