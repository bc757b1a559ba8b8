"""Clients that are slow on purpose: cut when their time is over, never before; real clocks, short limits."""

from __future__ import annotations

import threading
import time

import pytest
from front_peer import HOST, Peer, ask, assert_refusal, chunked, get, post, wait_until_gone


def drip(peer: Peer, data: bytes, every_s: float) -> None:
    """Send `data` over and over, a piece each `every_s`, until the server closes."""

    def run() -> None:
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            try:
                peer.send(data)
            except OSError:
                return
            time.sleep(every_s)

    threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize("start", [b"GET /ok HT", b"GET /ok HTTP/1.1\r\nHost: t\r\nX: y\r\n", b"\r\n"])
def test_a_head_that_stalls_is_answered_408(hurried: int, start: bytes) -> None:
    with Peer(hurried) as peer:
        assert_refusal(peer.send(start).answer(), 408, "RequestTimeOut")
        assert peer.is_closed_within(1)


@pytest.mark.parametrize("piece", [b"X: y\r\n", b"\r\n"], ids=["fields", "blank lines"])
def test_a_head_that_drips_is_answered_408(hurried: int, piece: bytes) -> None:
    with Peer(hurried) as peer:
        if piece.strip():
            peer.send(b"GET /ok HTTP/1.1\r\n" + HOST)
        drip(peer, piece, 0.1)
        assert_refusal(peer.answer(), 408, "RequestTimeOut")


def test_a_second_head_that_drips_is_answered_408(hurried: int) -> None:
    with Peer(hurried) as peer:
        assert peer.send(get("/ok")).answer().status == 200
        peer.send(b"GET /ok HTTP/1.1\r\n" + HOST)
        drip(peer, b"X: y\r\n", 0.1)
        assert_refusal(peer.answer(), 408, "RequestTimeOut")


def test_a_body_that_stalls_is_answered_408_and_the_app_is_told(hurried: int) -> None:
    begun = time.monotonic()
    with Peer(hurried) as peer:
        peer.send(post("/see?name=stalled", b"x" * 100)[:-50])
        assert_refusal(peer.answer(), 408, "RequestTimeOut")
    assert time.monotonic() - begun < 1.1
    assert wait_until_gone(hurried, "stalled") == "see"


@pytest.mark.parametrize("piece", [b"1\r\nx\r\n", b"1;"], ids=["chunks", "an extension"])
def test_a_body_that_drips_is_answered_408_when_its_whole_time_is_over(hurried: int, piece: bytes) -> None:
    begun = time.monotonic()
    with Peer(hurried) as peer:
        peer.send(chunked("/see", b"" if piece.endswith(b"\n") else b"1;"))
        drip(peer, piece if piece.endswith(b"\n") else b"a", 0.2)
        assert_refusal(peer.answer(), 408, "RequestTimeOut")
    assert 1.1 < time.monotonic() - begun < 4


def test_a_chunk_that_announces_two_to_the_63_is_answered_408(hurried: int) -> None:
    with Peer(hurried) as peer:
        peer.send(chunked("/see", b"8000000000000000\r\nabc"))
        assert_refusal(peer.answer(), 408, "RequestTimeOut")


def test_a_client_that_never_speaks_is_closed_after_the_keep_alive_time(hurried: int) -> None:
    with Peer(hurried) as peer:
        assert not peer.is_closed_within(0.8)
        assert peer.is_closed_within(1)


def test_an_idle_kept_connection_outlives_the_head_deadline(hurried: int) -> None:
    with Peer(hurried) as peer:
        assert peer.send(get("/ok")).answer().status == 200
        time.sleep(0.8)
        assert peer.send(get("/ok")).answer().status == 200


def test_a_response_may_take_longer_than_every_request_deadline(hurried: int) -> None:
    with Peer(hurried) as peer:
        assert peer.send(post("/whole?s=1.6", b"x")).answer().status == 200


def test_a_body_whose_answer_is_already_out_is_closed_without_a_second_answer(hurried: int) -> None:
    with Peer(hurried) as peer:
        peer.send(post("/decline", b"x" * 100)[:-50])
        assert [answer.status for answer in peer.rest()] == [413]


def test_a_client_that_never_reads_is_aborted_and_the_app_is_told(hurried: int) -> None:
    with Peer(hurried, receive_buffer=4096) as peer:
        peer.send(get("/flood?name=never-reads"))
        assert wait_until_gone(hurried, "never-reads", within_s=6) == "flood"


@pytest.mark.item(73)
def test_a_slow_reader_is_not_taken_for_one_that_never_reads(hurried: int) -> None:
    with Peer(hurried, receive_buffer=65536) as peer:
        peer.send(get("/flood?name=slow"))
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            assert peer.receive_raw(8192)
            time.sleep(0.05)
        assert "slow" not in ask(hurried, get("/left")).json
