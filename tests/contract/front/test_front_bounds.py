"""Too much of something: refused with 431, 413 or 503, in bounded memory, and the answer arrives."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from front_peer import GET_OK, HOST, Peer, ask, assert_refusal, chunked, exchange, get, post
from front_process import serve

FLOOD = b"a" * 65536


def test_a_head_of_more_than_64_kib_in_many_fields_is_refused(front: int) -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 1000) for number in range(70))
    (answer,) = exchange(front, b"GET /ok HTTP/1.1\r\n" + HOST + fields + b"\r\n")
    assert_refusal(answer, 431, "BadRequest.TooLarge")


def test_a_head_of_60_kb_is_served(front: int) -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 1000) for number in range(60))
    assert ask(front, b"GET /ok HTTP/1.1\r\n" + HOST + fields + b"\r\n").status == 200


def test_more_than_256_fields_are_refused(front: int) -> None:
    (answer,) = exchange(front, b"GET /ok HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 256 + b"\r\n")
    assert_refusal(answer, 431, "BadRequest.TooLarge")


def test_256_fields_are_served(front: int) -> None:
    assert ask(front, b"GET /ok HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 255 + b"\r\n").status == 200


def test_a_target_of_more_than_16_kib_is_refused(front: int) -> None:
    (answer,) = exchange(front, get("/" + "a" * 16_384))
    assert_refusal(answer, 431, "BadRequest.TooLarge")


@pytest.mark.parametrize(
    "start",
    [
        b"GET /ok HTTP/1.1\r\nHost: t\r\nX: ",
        b"GET /ok HTTP/1.1\r\nHost: t\r\nX",
        b"GET /",
        chunked("/see", b"3;"),
        chunked("/see", b"0\r\nX: "),
    ],
    ids=["one value", "one name", "one target", "one chunk extension", "one trailer"],
)
def test_one_endless_element_is_refused_long_before_10_mb(front: int, start: bytes) -> None:
    with Peer(front) as peer:
        peer.send(start)
        peer.send_until_refused(FLOOD, 160)
        assert_refusal(peer.answer(), 431, "BadRequest.TooLarge")


def test_endless_blank_lines_before_a_head_are_refused(front: int) -> None:
    with Peer(front) as peer:
        peer.send_until_refused(b"\r\n" * 32768, 160)
        assert_refusal(peer.answer(), 431, "BadRequest.TooLarge")


def test_many_chunks_with_long_extensions_are_refused(front: int) -> None:
    body = b"".join(b"1;%s\r\na\r\n" % (b"x" * 1000) for _ in range(200))
    (answer,) = exchange(front, chunked("/see", body))
    assert_refusal(answer, 431, "BadRequest.TooLarge")


def test_plain_chunks_cannot_pay_for_a_long_trailer(front: int) -> None:
    with Peer(front) as peer:
        peer.send(chunked("/see", b"1\r\na\r\n" * 20_000))
        peer.send(b"0\r\nX: " + b"y" * 50_000).send(b"y" * 50_000)
        assert_refusal(peer.answer(), 431, "BadRequest.TooLarge")


def test_more_than_256_trailers_are_refused(front: int) -> None:
    (answer,) = exchange(front, chunked("/see", b"0\r\n" + b"X: y\r\n" * 300 + b"\r\n"))
    assert_refusal(answer, 431, "BadRequest.TooLarge")


def test_a_body_of_many_tiny_chunks_is_served(front: int) -> None:
    answer = ask(front, chunked("/see", b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n"))
    assert answer.json["bytes"] == 50_000


def test_a_declared_body_over_the_bound_is_refused_at_its_head(front: int) -> None:
    head = post("/see", b"", b"X: y\r\n").replace(b"Content-Length: 0", b"Content-Length: 10000000000")
    (answer,) = exchange(front, head)
    assert_refusal(answer, 413, "BadRequest.TooLarge")


def test_a_refused_body_that_is_sent_all_the_same_does_not_reset_the_answer_away(front: int) -> None:
    with Peer(front) as peer:
        peer.send_until_refused(post("/see", b"a" * 8_000_000), 1)
        assert_refusal(peer.answer(), 413, "BadRequest.TooLarge")


def test_a_chunked_body_over_the_bound_is_refused_as_it_passes_it(front: int) -> None:
    with Peer(front) as peer:
        peer.send(chunked("/see", b""))
        peer.send_until_refused(b"10000\r\n" + FLOOD + b"\r\n", 100)
        assert_refusal(peer.answer(), 413, "BadRequest.TooLarge")


def test_an_app_that_answers_without_reading_does_not_have_its_answer_reset_away(front: int) -> None:
    with Peer(front) as peer:
        peer.send(post("/decline", b"a" * 900_000, b"Connection: close\r\n"))
        answer = peer.answer()
        assert (answer.status, answer.json) == (413, {"code": "BadRequest.TooLarge"})
        assert peer.is_closed_within(2)


def test_the_connection_over_the_bound_gets_503_and_the_others_go_on() -> None:
    with serve(connections=5, linger_s=5) as served, ExitStack() as stack:
        peers = [stack.enter_context(Peer(served.port)) for _ in range(5)]
        assert [peer.send(GET_OK).answer().status for peer in peers] == [200] * 5
        for refused in [stack.enter_context(Peer(served.port)) for _ in range(10)]:
            answer = refused.answer()
            assert_refusal(answer, 503, "ModelServingError")
            assert answer.headers["retry-after"] == "1"
        assert [peer.send(GET_OK).answer().status for peer in peers] == [200] * 5
        peers[0].half_close().rest()
        assert ask(served.port, GET_OK).status == 200  # though the refused ones are still there


def test_1000_idle_connections_do_not_keep_a_request_out(front: int) -> None:
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(Peer(front))
        assert ask(front, GET_OK).status == 200
