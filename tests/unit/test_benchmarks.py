"""The arithmetic, parsing and printing of the benchmarks; no figure is measured here."""

from __future__ import annotations

import json

import pytest
from benchmarks import machine, processes
from benchmarks.__main__ import MEASURES
from benchmarks.client import generation
from benchmarks.figures import Figure, percentile
from benchmarks.frame_cost import summary
from benchmarks.machine import ROOT
from benchmarks.overhead import Times, comparison
from benchmarks.replies import Reply
from benchmarks.table import as_json, number, render

EVENT = b'id:%d\nevent:result\n:HTTP_STATUS/200\ndata:{"usage":{"total_tokens":9,"output_tokens":%d}}\n\n'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streamed(*event_times: float, sent_at: float = 0.0, number_of_last: int | None = None) -> Reply:
    reply = Reply(sent_at)
    reply.feed(STREAM_HEAD, sent_at)
    for place, time in enumerate(event_times, start=1):
        last = place == len(event_times)
        reply.feed(chunk(EVENT % (number_of_last if last and number_of_last else place, place)), time)
    reply.feed(END, event_times[-1])
    return reply


def test_a_percentile_lies_between_its_neighbours() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([4, 1, 3, 2], 0) == 1
    assert percentile([4, 1, 3, 2], 100) == 4
    assert percentile(list(range(101)), 99) == 99
    assert percentile([7], 99) == 7


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


def test_the_verdict_is_about_the_median() -> None:
    assert Figure("f", "s", (1, 5, 90), target=5).verdict == "ok"
    assert Figure("f", "s", (1, 5.01, 5.02), target=5).verdict == "MISSED"
    assert Figure("f", "s", (1, 5, 90)).verdict == "-"


def test_a_p99_needs_enough_values() -> None:
    assert Figure("f", "s", tuple(range(49))).p99 is None
    assert Figure("f", "s", tuple(range(101))).p99 == 99


def test_a_percentile_as_figure_counts_its_samples() -> None:
    figure = Figure.of_percentile("late", "ms", list(range(101)), 99, target=98)
    assert (figure.median, figure.runs, figure.verdict) == (99, 101, "MISSED")


def test_numbers_have_about_three_digits() -> None:
    assert [number(value) for value in (3765.4, 16.62, 1.234, 0.0321, -12.34)] == [
        "3765",
        "16.6",
        "1.23",
        "0.032",
        "-12.3",
    ]


def test_the_table_is_aligned_markdown() -> None:
    figures = [Figure("start: later", "s", (2.0, 3.5, 2.5), target=3), Figure("PSS", "MB", (72.5,))]
    assert render(figures).splitlines() == [
        "| figure       | target | median (min..max)   | p99 | runs | verdict |",
        "|--------------|--------|---------------------|-----|------|---------|",
        "| start: later | <= 3 s | 2.50 s (2.00..3.50) |     | 3    | ok      |",
        "| PSS          |        | 72.5 MB             |     | 1    | -       |",
    ]


def test_a_figure_as_json_has_what_the_table_has() -> None:
    assert json.loads(json.dumps(as_json(Figure("start", "s", (2.0, 3.5, 2.5), target=3)))) == {
        "figure": "start",
        "unit": "s",
        "target": 3,
        "median": 2.5,
        "min": 2.0,
        "max": 3.5,
        "p99": None,
        "runs": 3,
        "verdict": "ok",
    }


def test_a_whole_answer_is_read_however_it_is_cut() -> None:
    data = b'HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{"usage":{"output_tokens":16}}'
    for cut in range(len(data)):
        reply = Reply(10.0)
        assert not reply.feed(data[:cut], 11.0)
        assert reply.feed(data[cut:], 12.0)
        assert (reply.status, reply.total_s, reply.output_tokens) == (200, 2.0, 16)


def test_a_stream_is_read_however_it_is_cut() -> None:
    data = STREAM_HEAD + chunk(EVENT % (1, 3)) + chunk(b":\n") + chunk(EVENT % (2, 5)) + END
    for cut in range(len(data)):
        reply = Reply(10.0)
        assert not reply.feed(data[:cut], 11.0)
        assert reply.feed(data[cut:], 12.0)
        assert (len(reply.event_times), reply.events_lost, reply.output_tokens) == (2, 0, 5)


def test_an_event_counts_when_it_is_whole() -> None:
    reply, event = Reply(10.0), chunk(EVENT % (1, 1))
    reply.feed(STREAM_HEAD + event[:-5], 11.0)
    assert reply.event_times == []
    reply.feed(event[-5:], 13.0)
    assert reply.first_event_s == 3.0


def test_an_event_may_come_in_two_chunks() -> None:
    reply, event = Reply(10.0), EVENT % (1, 1)
    reply.feed(STREAM_HEAD + chunk(event[:9]), 11.0)
    reply.feed(chunk(event[9:]) + END, 12.0)
    assert (reply.event_times, reply.events_lost, reply.output_tokens) == ([12.0], 0, 1)


def test_a_gap_in_the_numbers_is_a_lost_event() -> None:
    assert streamed(1.0, 2.0, number_of_last=5).events_lost == 3


def test_only_events_inside_the_window_count() -> None:
    load = summary([streamed(0.98, 1.0, 1.02, 1.05, 1.07)], start=1.0, end=1.06, used_s=0.3)
    assert load.events == 3
    assert load.added_gaps_ms == pytest.approx([0.0, 10.0])
    assert load.event_us == pytest.approx(100_000)


def test_tokens_that_came_together_are_counted() -> None:
    reply = Reply()
    reply.feed(STREAM_HEAD + chunk(EVENT % (1, 3)), 1.0)
    reply.feed(END, 2.0)
    assert summary([reply], start=0.5, end=1.5, used_s=0.3).merged == 2


def test_a_stream_that_ended_inside_the_window_spoils_the_run() -> None:
    with pytest.raises(ValueError, match="too busy"):
        summary([streamed(1.0, 1.02)], start=1.0, end=1.5, used_s=0.3)


def test_what_http_added_is_the_difference_within_each_round() -> None:
    times = Times(
        engine_first=[10, 50, 12], engine_whole=[20, 60, 22], events_first=[11, 50.5, 15], json_whole=[21.5, 61, 24]
    )
    added = {figure.name: figure.values for figure in comparison("x", times) if figure.target is not None}
    assert added == {"x: added to the first": (1, 0.5, 3), "x: added to the whole": (1.5, 1, 2)}


def test_a_request_announces_its_body() -> None:
    head, _, body = generation("sk-1", "echo", "你好", events=True, max_tokens=1).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Accept: text/event-stream" in head
    assert json.loads(body) == {"model": "echo", "input": {"prompt": "你好"}, "parameters": {"max_tokens": 1}}


def test_the_banner_tells_port_and_first_key() -> None:
    key = f"sk-{'a1' * 32}"
    text = f"Dashbelle 0.1.0 is ready on http://127.0.0.1:45123\n\nAPI key: {key}\n  It is shown this once.\n"
    assert processes.banner_port(text) == 45123
    assert processes.banner_key(text) == key
    assert processes.banner_port("Dashbelle 0.1.0 is re") is None
    assert processes.banner_key("Dashbelle 0.1.0 is ready on http://127.0.0.1:45123\n") == ""


def test_cpu_time_is_read_behind_a_name_with_spaces_and_brackets() -> None:
    fields = " ".join(["S", *map(str, range(4, 53))])
    assert processes.cpu_ticks(f"42 (a b) c) {fields}") == 14 + 15


def test_memory_is_read_in_decimal_megabytes() -> None:
    rollup = "55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:               86000 kB\nPss:               70000 kB\n"
    assert processes.rollup_mb(rollup, "Rss") == pytest.approx(88.064)
    with pytest.raises(ValueError, match="no Swap"):
        processes.rollup_mb(rollup, "Swap")


def test_the_machine_is_described_by_proc() -> None:
    assert machine.cpu_model("processor\t: 0\nmodel name\t: AMD EPYC 9B45\nflags\t: fpu\n") == "AMD EPYC 9B45"
    assert machine.cpu_model("CPU implementer\t: 0x41\n") == ""
    assert machine.memory_kib("MemTotal:       24684032 kB\nMemFree: 1 kB\n") == 24684032


def test_every_figure_has_its_section_in_the_docs() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert [name for name in MEASURES if f"## {name}\n" not in page] == []
