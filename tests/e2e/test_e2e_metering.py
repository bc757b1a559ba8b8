"""What the ledger, the reply and /metrics say of one call is the same, and the ledger says it first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from native_client import BELLE, LONG_STORY, NativeClient

from running_server import RunningServer

STAND_IN = "smollm2-135m-instruct"


def test_a_call_is_settled_before_its_last_event_arrives(belle_server: RunningServer) -> None:
    with NativeClient(belle_server).stream(LONG_STORY, max_tokens=20) as stream:
        for event in stream:
            if event.finish != "null":
                break
        with halted(belle_server):
            row = row_of(belle_server, stream.request_id)
    assert_agrees(row, event.data["usage"], event.finish)


def test_a_call_is_settled_before_its_json_body_arrives(belle_server: RunningServer) -> None:
    answer = NativeClient(belle_server).answer(LONG_STORY, max_tokens=20)
    with halted(belle_server):
        row = row_of(belle_server, answer["request_id"])
    assert_agrees(row, answer["usage"], answer["output"]["finish_reason"])


def test_a_call_with_two_answers_has_one_row_with_the_tokens_of_both(belle_server: RunningServer) -> None:
    answer = NativeClient(belle_server).answer(LONG_STORY, max_tokens=20, n=2, result_format="message")
    row = row_of(belle_server, answer["request_id"])
    assert row["output_tokens"] == answer["usage"]["output_tokens"] == 40


def test_the_counters_of_the_metrics_page_grow_by_what_the_reply_says(belle_server: RunningServer) -> None:
    before = figures(belle_server)
    usage = NativeClient(belle_server).answer(LONG_STORY, max_tokens=20)["usage"]
    after = figures(belle_server)
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {"calls": 1, "input": usage["input_tokens"], "output": usage["output_tokens"]}


def figures(server: RunningServer) -> dict[str, float]:
    """The counters of settled calls."""
    tokens = {
        direction: server.metric("dashbelle_tokens_total", model=STAND_IN, direction=direction)
        for direction in ("input", "output")
    }
    return {"calls": server.metric("dashbelle_calls_total", model=STAND_IN), **tokens}


@contextmanager
def halted(server: RunningServer) -> Iterator[None]:
    """The server does nothing inside the block: what is not written yet stays unwritten."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def row_of(server: RunningServer, request_id: str) -> dict[str, Any]:
    """The one line of the ledger about a call."""
    (row,) = [row for row in server.usage() if row["request_id"] == request_id]
    return row


def assert_agrees(row: dict[str, Any], usage: dict[str, int], finish: str) -> None:
    """The ledger's line and the reply tell of the same call."""
    assert (row["input_tokens"], row["output_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    assert usage["total_tokens"] == row["input_tokens"] + row["output_tokens"]
    assert (row["key"], row["model"], row["served_model"]) == ("default", BELLE, STAND_IN)
    assert row["end_reason"] == finish
    assert row["started_at"] < row["ended_at"]
