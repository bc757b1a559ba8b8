"""Requests sent ahead of their answers: answered in order, bounded, and never mixed into a running response."""

from __future__ import annotations

import pytest
from front_peer import GET_OK, Peer, ask, assert_refusal, chunked, exchange, get, post

STREAM = get("/stream?n=8&gap=0.03")
WHOLE_STREAM = b"data:x\n\n" * 8
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_pipelined_requests_are_answered_in_order(front: int) -> None:
    bodies = [b"%d" % number for number in range(10)]
    with Peer(front) as peer:
        peer.send(b"".join(post("/see", body) for body in bodies))
        assert [peer.answer().json["body"].encode() for _ in bodies] == bodies


def test_64_requests_behind_a_running_one_are_all_answered(front: int) -> None:
    with Peer(front) as peer:
        peer.send(STREAM + GET_OK * 64)
        assert peer.answer().body == WHOLE_STREAM
        assert [peer.answer().status for _ in range(64)] == [200] * 64


def test_more_than_64_queued_requests_are_dropped_and_the_running_one_ends_whole(front: int) -> None:
    (answer,) = exchange(front, STREAM + GET_OK * 2000)
    assert answer.is_whole
    assert answer.body == WHOLE_STREAM


def test_100_requests_one_after_the_other_use_one_connection(front: int) -> None:
    with Peer(front) as peer:
        assert [peer.send(post("/see", b"x")).answer().status for _ in range(100)] == [200] * 100


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\x01\x02", b"GET /ok HTTP/1.1\r\n\r\n", chunked("/see", b"xyz\r\n"), get("/" + "a" * 20_000), UPGRADE],
    ids=["zero bytes", "no host", "broken chunk", "long target", "websocket upgrade"],
)
def test_garbage_behind_a_running_stream_leaves_it_whole_then_closes(front: int, garbage: bytes) -> None:
    with Peer(front) as peer:
        peer.send(STREAM)
        peer.receive()
        (answer,) = peer.send(garbage + GET_OK).rest()
        assert answer.is_whole
        assert answer.body == WHOLE_STREAM


def test_a_flood_behind_a_running_stream_is_not_read_and_leaves_it_whole(front: int) -> None:
    with Peer(front) as peer:
        peer.send(get("/stream?n=20&gap=0.05") + b"\x00")
        assert peer.send_until_blocked(b"x" * 65536, 800) < 800
        (answer,) = peer.rest()
        assert answer.body == b"data:x\n\n" * 20


def test_a_request_behind_a_large_queued_body_is_still_answered(front: int) -> None:
    with Peer(front) as peer:
        peer.send(STREAM + post("/see", b"x" * 900_000) + GET_OK)
        assert peer.answer().body == WHOLE_STREAM
        assert peer.answer().json["bytes"] == 900_000
        assert peer.answer().json == {"ok": True}


def test_nothing_behind_connection_close_is_served(front: int) -> None:
    (answer,) = exchange(front, b"GET /ok HTTP/1.1\r\nHost: t\r\nConnection: Close\r\n\r\n" + GET_OK)
    assert answer.json == {"ok": True}


def test_garbage_behind_a_whole_request_leaves_its_answer(front: int) -> None:
    answers = exchange(front, post("/see", b"x") + b"\x00")
    assert [answer.status for answer in answers] == [200]


def test_garbage_on_a_kept_connection_is_refused(front: int) -> None:
    with Peer(front) as peer:
        assert peer.send(GET_OK).answer().status == 200
        (answer,) = peer.send(b"\x00").rest()
        assert_refusal(answer, 400, "InvalidParameter")


def test_a_refused_neighbour_does_not_disturb_another_connection(front: int) -> None:
    with Peer(front) as peer:
        peer.send(STREAM)
        exchange(front, b"\x00")
        assert peer.answer().body == WHOLE_STREAM
        assert ask(front, GET_OK).status == 200
