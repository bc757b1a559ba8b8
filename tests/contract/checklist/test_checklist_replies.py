"""Replies and streams over raw HTTP. Numbers are items of docs/conformance.md."""

from __future__ import annotations

import json
import re

import httpx2
import pytest
from raw_calls import (
    PATH,
    PATIENCE_S,
    STREAM,
    TEXT,
    answer,
    ask,
    body,
    connection,
    frames,
    head,
    post,
    raw_socket,
    refusal,
)

from running_server import RunningServer

FRAME = re.compile(rb"id:(\d+)\nevent:result\n:HTTP_STATUS/200\ndata:(\{[^\n]*\})\n\n")
EVENTS = "text/event-stream;charset=UTF-8"


@pytest.fixture(scope="module")
def streamed(echo_server: RunningServer) -> httpx2.Response:
    """One whole stream."""
    return post(echo_server, body(), STREAM)


def test_52_a_good_reply_has_no_code_and_plain_numbers(echo_server: RunningServer) -> None:
    told = answer(echo_server)
    assert not told.get("code")
    assert isinstance(told["request_id"], str)
    assert {type(value) for value in told["usage"].values()} == {int}
    assert told["usage"]["total_tokens"] == told["usage"]["input_tokens"] + told["usage"]["output_tokens"]


def test_57_a_prompt_in_belles_form_reaches_the_model_as_it_is(echo_server: RunningServer) -> None:
    prompt = "Human:你好\n\nAssistant:\n</s>Human:again  \n\nAssistant:"
    assert answer(echo_server, prompt)["output"]["text"] == prompt


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [
        ({"Accept": "text/event-stream"}, EVENTS),
        ({"Accept": "*/*", **STREAM}, EVENTS),
        ({"Accept": "*/*"}, "application/json"),
    ],
)
def test_58_either_header_streams_and_neither_means_json(
    echo_server: RunningServer, headers: dict[str, str], content_type: str
) -> None:
    assert post(echo_server, body(), headers).headers["content-type"] == content_type


def test_59_a_stream_is_chunked_and_begins_before_it_ends(echo_server: RunningServer) -> None:
    headers = {"Authorization": f"Bearer {echo_server.key}", "Content-Type": "application/json", **STREAM}
    content = json.dumps(body("x" * 3000)).encode()
    before = echo_server.metric("dashbelle_slots_busy")
    with connection(echo_server) as opened:
        opened.request("POST", PATH, content, headers)
        reply = opened.getresponse()
        assert (reply.headers["content-type"], reply.headers["transfer-encoding"]) == (EVENTS, "chunked")
        assert reply.readline() == b"id:1\n"
        assert echo_server.metric("dashbelle_slots_busy") == before + 1  # it is still being written
        assert frames(reply.read())[-1]["output"]["finish_reason"] == "stop"


def test_60_frames_are_spelt_exactly_and_count_from_1(streamed: httpx2.Response) -> None:
    found = list(FRAME.finditer(streamed.content))
    assert b"".join(match[0] for match in found) == streamed.content
    assert [int(match[1]) for match in found] == list(range(1, len(found) + 1))
    assert len(found) > 10


def test_61_the_last_event_has_its_empty_line_and_nothing_follows(streamed: httpx2.Response) -> None:
    assert streamed.content.endswith(b"}\n\n")
    assert b"[DONE]" not in streamed.content


def test_62_only_the_last_frame_has_a_reason(streamed: httpx2.Response) -> None:
    *before, last = (frame["output"]["finish_reason"] for frame in frames(streamed.content))
    assert set(before) == {"null"}
    assert last == "stop"


@pytest.mark.parametrize("incremental", [True, False])
def test_69_no_frame_holds_half_a_character(echo_server: RunningServer, *, incremental: bool) -> None:
    prompt = "海上生明月,天涯共此时。🌊😀é" * 20
    raw = post(echo_server, body(prompt, parameters={"incremental_output": incremental}), STREAM).content
    texts = [frame["output"]["text"] for frame in frames(raw)]
    assert ("".join(texts) if incremental else texts[-1]) == prompt
    assert "�" not in raw.decode()
    assert all(incremental or prompt.startswith(text) for text in texts)


def test_70_a_bad_parameter_of_a_stream_is_a_status_with_json(echo_server: RunningServer) -> None:
    told = refusal(post(echo_server, body(parameters={"temperature": 2}), STREAM))
    assert told[:2] == (400, "InvalidParameter")


def test_73_a_slow_reader_does_not_hold_up_others(echo_server: RunningServer) -> None:
    content = json.dumps(body("x" * 5000)).encode()
    with raw_socket(echo_server) as slow:
        slow.sendall(head(echo_server, len(content), "X-DashScope-SSE: enable") + content)
        assert slow.recv(15) == b"HTTP/1.1 200 OK"
        for _ in range(5):
            reply = httpx2.post(
                echo_server.url + PATH,
                json=body(),
                headers={"Authorization": f"Bearer {echo_server.key}"},
                timeout=PATIENCE_S / 10,
                trust_env=False,
            )
            assert reply.json()["output"]["text"] == TEXT
        assert echo_server.metric("dashbelle_slots_busy") >= 1  # the slow one is not over


def test_55_a_prompt_has_as_many_tokens_as_the_tokenizer_counts(echo_server: RunningServer) -> None:
    counted = post(echo_server, body(), path="/api/v1/tokenizer").json()["usage"]["input_tokens"]
    assert ask(echo_server).json()["usage"]["input_tokens"] == counted
