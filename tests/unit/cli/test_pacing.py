"""Arrivals judged: smooth, in lumps or at once, and who on the way is named for it."""

from __future__ import annotations

import pytest

from dashbelle.cli.pacing import ANYWHERE, Arrivals, Pacing, hops, traces

EVENT = b"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{}\n\n"
OURS = {"content-type": "text/event-stream;charset=UTF-8", "x-accel-buffering": "no", "transfer-encoding": "chunked"}


def arrived(*pieces: tuple[float, int]) -> Arrivals:
    """Pieces by the time of each and the events in it."""
    arrivals = Arrivals()
    for at_s, events in pieces:
        arrivals.note(at_s, EVENT * events)
    return arrivals


REAL = [(0.4 + 0.05 * place, 1) for place in range(40)]
QUEUED = [(30 + at_s, 1) for at_s, _ in REAL]
FAST = [(0.01 + 0.00002 * place, 1) for place in range(2000)]
COALESCED = [(0.01 + 0.0005 * place, 20) for place in range(100)]
AT_ONCE = [(2.4, 40)]
AT_ONCE_IN_SOCKET_READS = [(0.2, 300), (0.2001, 300), (0.2002, 300)]
LUMPS = [(0.9, 14), (1.6, 14), (2.4, 12)]


@pytest.mark.parametrize(
    ("pieces", "pacing"),
    [
        (REAL, Pacing.SMOOTH),
        (QUEUED, Pacing.SMOOTH),
        (FAST, Pacing.SMOOTH),
        (COALESCED, Pacing.UNKNOWN),
        (AT_ONCE, Pacing.AT_ONCE),
        (AT_ONCE_IN_SOCKET_READS, Pacing.AT_ONCE),
        (LUMPS, Pacing.LUMPS),
        ([(0.1, 1)] * 7, Pacing.UNKNOWN),
        ([], Pacing.UNKNOWN),
    ],
)
def test_arrivals_are_judged_by_what_comes_together_and_when(pieces: list[tuple[float, int]], pacing: Pacing) -> None:
    assert arrived(*pieces).pacing == pacing


@pytest.mark.parametrize("size", [1, 2, 7, len(EVENT), len(EVENT) + 1, 1000])
def test_events_are_counted_however_they_are_cut(size: int) -> None:
    arrivals, stream = Arrivals(), EVENT * 9 + b":\n"
    for place in range(0, len(stream), size):
        arrivals.note(place / 100, stream[place : place + size])
    assert arrivals.events == 9


@pytest.mark.parametrize(
    ("headers", "name", "advice"),
    [
        ({"server": "nginx/1.24.0"}, "nginx", "proxy_buffering off"),
        ({"server": "Apache/2.4.1 (Debian)"}, "apache", "flushpackets"),
        ({"via": "1.1 Caddy"}, "caddy", "flush_interval"),
        ({"server": "istio-envoy"}, "envoy", "buffer"),
        ({"x-varnish": "32770"}, "varnish", "do_stream"),
        ({"x-cache": "MISS from squid"}, "squid", "cache"),
        ({"server": "Microsoft-IIS/10.0"}, "microsoft-iis", "responseBufferLimit"),
        ({"cf-ray": "8f00"}, "cf-ray", "transform"),
        ({"via": "1.1 gw.corp"}, "via: 1.1 gw.corp", ANYWHERE),
    ],
)
def test_a_hop_is_named_by_its_headers_with_what_to_do(headers: dict[str, str], name: str, advice: str) -> None:
    (hop,) = hops({**OURS, **headers})
    assert hop.name == name
    assert advice in hop.advice


def test_two_hops_are_two() -> None:
    assert [hop.name for hop in hops({"server": "cloudflare", "via": "1.1 nginx", "cf-ray": "1"})] == [
        "cloudflare", "nginx", "cf-ray",
    ]  # fmt: skip


def test_without_a_hop_there_is_neither_name_nor_trace() -> None:
    assert hops(OURS) == []
    assert traces(OURS) == []


@pytest.mark.parametrize(
    ("headers", "sign"),
    [
        ({"content-length": "5000"}, "Content-Length"),
        ({"content-encoding": "gzip"}, "compressed (gzip)"),
        ({"x-cache": "HIT"}, "cache"),
        ({"age": "3"}, "cache"),
    ],
)
def test_a_changed_head_is_a_trace(headers: dict[str, str], sign: str) -> None:
    (trace,) = traces({**OURS, **headers})
    assert sign in trace


def test_a_header_that_nginx_takes_off_is_a_trace_unless_it_names_itself() -> None:
    bare = {"content-type": "text/event-stream"}
    assert traces(bare) == ["X-Accel-Buffering is gone, which nginx takes off"]
    assert traces({**bare, "server": "nginx"}) == []
