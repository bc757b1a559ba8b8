"""What HTTP/1 clients may do beyond plain requests: Expect, trailers, upgrades, HTTP/1.0, one last request."""

from __future__ import annotations

import pytest
from front_peer import GET_OK, Peer, ask, assert_refusal, chunked, exchange, post

EXPECT = b"Expect: 100-continue\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAA\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def test_a_client_that_expects_is_told_to_continue_and_then_answered(front: int) -> None:
    request = post("/see", b"x" * 100, EXPECT)
    with Peer(front) as peer:
        assert peer.send(request[:-100]).receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(request[-100:])
        assert [peer.answer().status for _ in range(2)] == [100, 200]
        assert peer.send(GET_OK).answer().status == 200


def test_a_client_that_expects_too_much_is_refused_at_once(front: int) -> None:
    head = post("/see", b"", EXPECT).replace(b"Content-Length: 0", b"Content-Length: 2000000")
    (answer,) = exchange(front, head)
    assert_refusal(answer, 413, "BadRequest.TooLarge")


def test_an_app_that_declines_an_expected_body_ends_the_connection(front: int) -> None:
    """Whether the body still comes is unknown: what follows must not be read as a request."""
    with Peer(front) as peer:
        assert peer.send(post("/decline", b"x" * 100, EXPECT)[:-100]).answer().status == 413
        assert peer.is_closed_within(2)


def test_an_http_1_0_client_is_never_told_to_continue(front: int) -> None:
    (answer,) = exchange(front, post("/see", b"x", EXPECT).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET /ok HTTP/1.0\r\n\r\n", b"GET /ok HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"],
    ids=["HTTP/1.0", "connection close"],
)
def test_a_last_request_gets_its_whole_answer_and_then_the_end(front: int, request_bytes: bytes) -> None:
    (answer,) = exchange(front, request_bytes)
    assert answer.is_whole
    assert answer.json == {"ok": True}


def test_a_chunked_body_is_served(front: int) -> None:
    seen = ask(front, chunked("/see", b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).json
    assert seen["body"] == "abcde"


def test_trailers_are_never_merged_into_the_headers(front: int) -> None:
    request = chunked("/see", b"1\r\na\r\n0\r\nAuthorization: Bearer sk-x\r\nX: y\r\n\r\n", b"A: b\r\n")
    seen = ask(front, request).json
    assert [name for name, _ in seen["headers"]] == ["host", "a", "transfer-encoding"]


@pytest.mark.parametrize(
    "request_bytes",
    [post("/see", b"abcde", H2C), chunked("/see", b"5\r\nabcde\r\n0\r\n\r\n", H2C)],
    ids=["length", "chunked"],
)
def test_an_offer_of_h2c_on_a_post_keeps_its_body(front: int, request_bytes: bytes) -> None:
    with Peer(front) as peer:
        for _ in range(2):
            seen = peer.send(request_bytes).answer().json
            assert (seen["method"], seen["body"]) == ("POST", "abcde")
            assert "upgrade" not in dict(seen["headers"])
        assert peer.send(GET_OK).answer().status == 200


def test_an_offer_of_h2c_that_arrives_byte_by_byte_keeps_its_body(front: int) -> None:
    with Peer(front) as peer:
        for byte in post("/see", b"abcde", H2C):
            peer.send(bytes([byte]))
        assert peer.answer().json["body"] == "abcde"


def test_pipelined_offers_of_h2c_are_all_served(front: int) -> None:
    with Peer(front) as peer:
        peer.send(post("/see", b"abcde", H2C) * 30)
        assert [peer.answer().json["body"] for _ in range(30)] == ["abcde"] * 30


def test_an_offer_of_h2c_does_not_loosen_the_checks(front: int) -> None:
    (answer,) = exchange(front, post("/see", b"abcde", H2C + b"Host: two\r\n"))
    assert_refusal(answer, 400, "InvalidParameter")


def test_a_websocket_upgrade_leaves_the_front(hurried: int) -> None:
    with Peer(hurried) as peer:
        peer.send(b"GET /ws HTTP/1.1\r\nHost: t\r\n" + WEBSOCKET + b"\r\n")
        assert peer.receive_raw().startswith(b"HTTP/1.1 101 ")
        assert not peer.is_closed_within(1.2)  # twice the head's deadline
        assert peer.send(b"\x00not HTTP\r\n").receive_raw() == b"\x00not HTTP\r\n"


def test_a_websocket_upgrade_on_a_used_connection_leaves_the_front(front: int) -> None:
    with Peer(front) as peer:
        assert peer.send(GET_OK).answer().status == 200
        peer.send(b"GET /ws HTTP/1.1\r\nHost: t\r\n" + WEBSOCKET + b"\r\n")
        assert peer.receive_raw().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "request_bytes",
    [post("/see", b"abc", WEBSOCKET), post("/see", b"abc", WEBSOCKET).replace(b"POST", b"GET")],
    ids=["POST", "GET with a body"],
)
def test_a_websocket_upgrade_with_a_body_is_an_ordinary_request(front: int, request_bytes: bytes) -> None:
    assert ask(front, request_bytes).json["body"] == "abc"


def test_a_websocket_upgrade_without_host_is_refused(front: int) -> None:
    (answer,) = exchange(front, b"GET /ws HTTP/1.1\r\n" + WEBSOCKET + b"\r\n")
    assert_refusal(answer, 400, "InvalidParameter")
