"""The protocol class on a real uvicorn: bad bytes, silent readers, floods, hang-ups and the drain."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from websocket_peer import BINARY, CONTINUATION, PING, PONG, TEXT, Peer, frame, rss_bytes
from websocket_process import Served, serve

STUCK_BYTES = 8_000_000
"""More than both kernels' buffers take for a peer that does not read."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """A server that bounds messages; whatever a test did to it, it must still serve."""
    with serve(ws_max_size=100_000, max_fragments=100) as served:
        yield served
        with Peer(served.port) as peer:
            assert peer.upgrade("/count").say("abc").text() == "3"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"Sec_WebSocket_Key": None}, "400 Bad Request"),
        ({"Sec_WebSocket_Key": "short"}, "400 Bad Request"),
        ({"Sec_WebSocket_Version": "8"}, "400 Bad Request"),
        ({"Sec_WebSocket_Version": None}, "400 Bad Request"),
    ],
)
def test_a_bad_handshake_is_refused_in_json(shared: Served, fields: dict[str, Any], status: str) -> None:
    with Peer(shared.port) as peer:
        response = peer.ask("/count", **fields)
    assert response.status_line == f"HTTP/1.1 {status}"
    assert response.headers["content-type"] == "application/json"
    assert response.json["code"] == "InvalidParameter"
    assert response.headers["x-request-id"] == response.json["request_id"] == str(UUID(response.json["request_id"]))
    assert b"short" not in response.body


@pytest.mark.item(87)
def test_messages_may_be_fragmented_with_pings_between(shared: Served) -> None:
    with Peer(shared.port) as peer:
        peer.upgrade("/count").send(frame(TEXT, b"ab", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"c"))
        assert peer.receive() == (PONG, b"?")
        assert peer.text() == "3"
        assert peer.send(frame(BINARY, b"\xff\xfe")).text() == "2"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"x" * 100_001), 1009),
        (frame(TEXT, b"x" * 60_000, fin=False) + frame(CONTINUATION, b"x" * 60_000), 1009),
        (frame(TEXT, b"a", fin=False) + frame(CONTINUATION, fin=False) * 200, 1008),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xe4", fin=False) + frame(CONTINUATION, b"\xbd"), 1007),
        (frame(TEXT, b"a", masked=False), 1002),
        (frame(TEXT, b"a", reserved=0x40), 1002),
        (frame(0x3, b"a"), 1002),
        (frame(CONTINUATION, b"a"), 1002),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"a"), 1002),
        (frame(PING, b"a" * 126), 1002),
    ],
    ids=["long", "long in parts", "many parts", "no UTF-8", "UTF-8 broken off", "unmasked", "compressed", "unknown",
         "no beginning", "no end", "long ping"],
)  # fmt: skip
def test_what_the_protocol_forbids_ends_the_connection_with_its_code(shared: Served, data: bytes, code: int) -> None:
    with Peer(shared.port) as peer:
        peer.upgrade("/count").send(data)
        assert peer.close_code() == code
        assert peer.is_closed_within(2)


def test_a_character_may_be_split_between_fragments(shared: Served) -> None:
    with Peer(shared.port) as peer:
        peer.upgrade("/count").send(frame(TEXT, b"\xe4", fin=False) + frame(CONTINUATION, b"\xbd\xa0"))
        assert peer.text() == "1"


def test_compression_is_declined(shared: Served) -> None:
    with Peer(shared.port) as peer:
        response = peer.ask("/count", Sec_WebSocket_Extensions="permessage-deflate")
    assert response.status_line == "HTTP/1.1 101 Switching Protocols"
    assert "sec-websocket-extensions" not in response.headers


def test_an_app_that_returns_ends_its_connection(shared: Served) -> None:
    with Peer(shared.port) as peer:
        assert peer.upgrade("/done").text() == "done"
        assert peer.is_closed_within(2)


@pytest.mark.parametrize("way", ["close", "half_close"])
def test_a_hang_up_reaches_the_app(way: str) -> None:
    with serve() as served, Peer(served.port) as peer:
        peer.upgrade("/count")
        peer.half_close() if way == "half_close" else peer.__exit__()
        assert served.saw_leave("/count", 1)


@pytest.mark.parametrize("way", ["close", "half_close"])
def test_a_hang_up_reaches_an_app_whose_reader_is_behind(way: str) -> None:
    with serve(sweep_s=0.2) as served, Peer(served.port) as peer:
        peer.upgrade("/flood")
        time.sleep(0.3)
        peer.half_close() if way == "half_close" else peer.__exit__()
        assert served.saw_leave("/flood", 1)
        time.sleep(0.4)  # nothing may still watch the connection then, which would be seen in the log


def test_a_reader_that_takes_nothing_is_dropped() -> None:
    with serve(write_stall_s=0.8, sweep_s=0.1) as served, Peer(served.port) as peer:
        peer.upgrade("/flood")
        assert not served.saw_leave("/flood", 0.5)
        assert served.saw_leave("/flood", 2)


def test_a_slow_reader_is_not_dropped() -> None:
    with serve(write_stall_s=0.8, sweep_s=0.1) as served, Peer(served.port, receive_buffer=8192) as peer:
        peer.upgrade("/flood").take_slowly(2.5, 100_000)
        assert not served.saw_leave("/flood", 0.1)


def test_a_peer_that_answers_no_ping_is_dropped() -> None:
    with serve(ws_ping_interval=0.2, ws_ping_timeout=0.4, linger_s=0.2) as served, Peer(served.port) as peer:
        peer.upgrade("/count")
        opcode, payload = peer.receive()
        assert opcode == PING
        peer.send(frame(PONG, payload))
        assert peer.receive()[0] == PING
        assert peer.close_code() == 1011
        assert served.saw_leave("/count", 1)


def test_a_peer_that_reads_nothing_and_answers_no_ping_is_dropped() -> None:
    with serve(ws_ping_interval=0.2, ws_ping_timeout=0.4, linger_s=0.2) as served, Peer(served.port) as peer:
        peer.upgrade("/flood")
        assert served.saw_leave("/flood", 2)


def test_pongs_for_a_peer_that_reads_none_do_not_pile_up() -> None:
    with serve() as served, Peer(served.port) as peer:
        peer.upgrade("/flood")
        time.sleep(0.3)
        before = rss_bytes(served.process.pid)
        pings = frame(PING, b"x" * 125) * 100
        for _ in range(STUCK_BYTES // len(pings)):
            peer.send(pings)
        assert rss_bytes(served.process.pid) - before < STUCK_BYTES // 2


# The drain


def drained(served: Served) -> float:
    """Seconds that the server takes to end, which it must do well."""
    begun = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(8) == 0
    return time.monotonic() - begun


def test_an_app_that_knows_of_the_drain_ends_its_connection_itself() -> None:
    with serve() as served, Peer(served.port) as peer:
        peer.upgrade("/aware").say("x")
        served.process.send_signal(signal.SIGTERM)
        assert peer.text() == "last words"
        assert peer.close_code() == 1001
        assert served.process.wait(5) == 0


def test_an_app_that_knows_nothing_of_the_drain_is_closed() -> None:
    with serve() as served, Peer(served.port) as peer:
        assert peer.upgrade("/count").say("abc").text() == "3"
        served.process.send_signal(signal.SIGTERM)
        assert peer.close_code() == 1012
        assert served.process.wait(5) == 0


@pytest.mark.parametrize("path", ["/aware", "/count", "/flood"])
def test_a_drain_is_not_held_up_by_a_peer_that_does_nothing(path: str) -> None:
    with serve(linger_s=0.3) as served, Peer(served.port) as peer:
        peer.upgrade(path)
        time.sleep(0.3)
        assert drained(served) < 3
