"""Replies byte for byte, against frames composed by hand and against recorded replies of the cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import DashbelleError, InternalError, InvalidApiKey, InvalidParameter
from dashbelle.vocabulary import Delta, TokenLogprob, Usage
from dashbelle.wire.dashscope import Answer, Events, ReplyForm, encode_answer, encode_error

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
RECORDED = ROOT.parent / "shared" / "data" / "recorded"
ID = "0f4c2c1e-7d1f-4b7e-8f0a-1c2d3e4f5a6b"

HELLO = [(Delta("你", 1), Usage(8, 1)), (Delta("好", 1), Usage(8, 2))]
TWO_CHOICES = [
    (Delta("你", 1), Usage(8, 1)),
    (Delta("Hi", 2, index=1), Usage(8, 2)),
    (Delta("好", 1, "stop"), Usage(8, 2)),
    (Delta("!", 1, "length", index=1), Usage(8, 3)),
]

HI = TokenLogprob(b"Hi", -0.25)
WITH_LOGPROBS = [
    (Delta("Hi", 1, logprobs=(HI,)), Usage(8, 1)),
    (Delta("!", 1, logprobs=(TokenLogprob(b"!", -0.5),)), Usage(8, 2)),
    (Delta("", 0, "stop"), Usage(8, 2)),
]


def stream_of(form: ReplyForm, steps: list[tuple[Delta, Usage]]) -> bytes:
    events = Events(ID, form)
    return b"".join(events.result(delta, usage) for delta, usage in steps)


def answer_of(form: ReplyForm, deltas: list[Delta], usage: Usage) -> bytes:
    answer = Answer(form)
    for delta in deltas:
        answer.add(delta)
    return encode_answer(answer, usage, ID)


@pytest.mark.parametrize(
    ("golden", "form", "steps"),
    [
        ("text-cumulative.sse", ReplyForm(), [*HELLO, (Delta("", 0, "stop"), Usage(8, 2))]),
        ("text-incremental.sse", ReplyForm(incremental=True), [*HELLO, (Delta("", 0, "stop"), Usage(8, 2))]),
        ("message-cumulative.sse", ReplyForm(as_message=True), [*HELLO, (Delta("", 0, "length"), Usage(8, 2))]),
        (
            "message-incremental.sse",
            ReplyForm(as_message=True, incremental=True),
            [*HELLO, (Delta("", 0, "length"), Usage(8, 2))],
        ),
        ("two-choices-cumulative.sse", ReplyForm(as_message=True), TWO_CHOICES),
        ("message-logprobs-cumulative.sse", ReplyForm(as_message=True, logprobs=True), WITH_LOGPROBS),
        (
            "message-logprobs-incremental.sse",
            ReplyForm(as_message=True, incremental=True, logprobs=True),
            WITH_LOGPROBS,
        ),
        ("escapes.sse", ReplyForm(), [(Delta('a"b\\c\n\0\x85\u2028\u2029😀/é', 1, "stop"), Usage(8, 1))]),
    ],
)
def test_events_are_spelt_exactly(golden: str, form: ReplyForm, steps: list[tuple[Delta, Usage]]) -> None:
    assert stream_of(form, steps) == (GOLDEN / golden).read_bytes()


def test_an_error_within_a_stream_is_its_next_event() -> None:
    events = Events(ID, ReplyForm())
    stream = events.result(*HELLO[0]) + events.error(InternalError())
    assert stream == (GOLDEN / "error-mid-stream.sse").read_bytes()


@pytest.mark.parametrize(
    ("golden", "form", "deltas", "usage"),
    [
        ("text-answer.json", ReplyForm(), [Delta("你好", 2), Delta("!", 1, "stop")], Usage(8, 3)),
        ("message-answer.json", ReplyForm(as_message=True), [Delta("你好", 2), Delta("!", 1, "stop")], Usage(8, 3)),
        (
            "message-logprobs-answer.json",
            ReplyForm(as_message=True, logprobs=True, top_logprobs=1),
            [Delta("Hi", 1, "stop", logprobs=(HI,))],
            Usage(8, 1),
        ),
        ("two-choices-answer.json", ReplyForm(as_message=True), [delta for delta, _ in TWO_CHOICES], Usage(8, 5)),
    ],
)
def test_answers_are_spelt_exactly(golden: str, form: ReplyForm, deltas: list[Delta], usage: Usage) -> None:
    assert answer_of(form, deltas, usage) == (GOLDEN / golden).read_bytes()


def test_choices_come_in_order_whatever_finished_first() -> None:
    deltas = [Delta("b", 1, "stop", index=1), Delta("a", 1, "stop", index=0)]
    choices = json.loads(answer_of(ReplyForm(as_message=True), deltas, Usage(1, 2)))["output"]["choices"]
    assert [(choice["index"], choice["message"]["content"]) for choice in choices] == [(0, "a"), (1, "b")]


def test_errors_are_spelt_exactly() -> None:
    assert encode_error(InvalidApiKey(), ID) == (GOLDEN / "error.json").read_bytes()


def test_an_id_from_a_client_cannot_break_out_of_its_string() -> None:
    hostile = '","code":"x\n'
    assert json.loads(encode_error(InternalError(), hostile))["request_id"] == hostile
    data = Events(hostile, ReplyForm()).result(Delta("a", 1, "stop"), Usage(1, 1)).decode().split("data:")[1]
    assert json.loads(data)["request_id"] == hostile


def recorded(name: str) -> bytes:
    if not RECORDED.is_dir():
        pytest.skip("recorded replies of the cloud are not on this machine")
    return (RECORDED / name).read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


def data_lines(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[5:]) for line in stream.splitlines() if line.startswith(b"data:")]


def test_a_recorded_text_stream_is_reproduced() -> None:
    want = recorded("single-generation-text-sse.response.body.txt").rstrip() + b"\n\n"
    frames = data_lines(want)
    events = Events(str(frames[0]["request_id"]), ReplyForm(incremental=True))
    got = b""
    for frame in frames:
        output, usage = frame["output"], frame["usage"]
        finish = None if output["finish_reason"] == "null" else output["finish_reason"]
        got += events.result(Delta(output["text"], 0, finish), Usage(usage["input_tokens"], usage["output_tokens"]))
    assert got == want


def test_recorded_errors_are_reproduced() -> None:
    whole = recorded("auth-error-nosse.response.body.txt").strip()
    assert encode_error(InvalidApiKey(), json.loads(whole)["request_id"]) == whole
    stream = recorded("parameter-error-sse.response.body.txt").rstrip() + b"\n\n"
    (data,) = data_lines(stream)
    error: DashbelleError = InvalidParameter(str(data["message"]))
    assert Events(str(data["request_id"]), ReplyForm()).error(error) == stream


@given(st.lists(st.text(), min_size=1), st.booleans())
def test_any_text_survives_the_stream(pieces: list[str], as_message: bool) -> None:  # noqa: FBT001 - hypothesis passes it
    deltas = [Delta(piece, 1) for piece in pieces] + [Delta("", 0, "stop")]
    texts: dict[bool, list[str]] = {}
    for incremental in (False, True):
        stream = stream_of(ReplyForm(as_message, incremental), [(delta, Usage(1, 1)) for delta in deltas])
        # As httpx does it: lines end wherever str.splitlines says so.
        frames = [json.loads(line[5:]) for line in stream.decode().splitlines() if line.startswith("data:")]
        outputs = [frame["output"]["choices"][0] if as_message else frame["output"] for frame in frames]
        texts[incremental] = [output["message"]["content"] if as_message else output["text"] for output in outputs]
        assert [output["finish_reason"] for output in outputs] == ["null"] * len(pieces) + ["stop"]
    assert texts[True] == [*pieces, ""]
    assert texts[False] == ["".join(pieces[: count + 1]) for count in range(len(deltas))]
