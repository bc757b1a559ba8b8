"""Bytes that nobody thought of: the answer is silence and the end, or sound HTTP, and the server lives on."""

from __future__ import annotations

import httptools
from front_peer import GET_OK, Answer, Peer, ask, assert_refusal
from hypothesis import example, given, settings
from hypothesis import strategies as st

STARTS = [
    b"GET /ok HTTP/1.1",
    b"POST /see HTTP/1.1",
    b"POST /decline HTTP/1.0",
    b"OPTIONS * HTTP/1.1",
    b"GET //ok HTTP/1.1",
]
FIELDS = [
    b"Host: t",
    b"Content-Length: 3",
    b"Content-Length: 18446744073709551616",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Connection: Upgrade",
    b"Connection: close",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"X: \xff",
    b" folded",
]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b""]
BODIES = [
    b"",
    b"abc",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3;e=f\r\nabc\r\n0\r\nHost: u\r\n\r\n",
    b"ffffffffffffffff\r\n",
]

mostly_crlf = st.sampled_from([b"\r\n"] * 12 + ENDS)
line = st.tuples(st.sampled_from(FIELDS) | st.binary(max_size=12), mostly_crlf).map(b"".join)
near_http = st.tuples(
    st.sampled_from(STARTS) | st.binary(max_size=20),
    mostly_crlf,
    st.just(b"Host: t\r\n"),
    st.lists(line, max_size=5).map(b"".join),
    mostly_crlf,
    st.sampled_from(BODIES) | st.binary(max_size=12),
).map(b"".join)
conversations = st.lists(st.one_of(near_http, near_http, near_http, st.binary(max_size=40)), min_size=1, max_size=3)


def hear(port: int, pieces: list[bytes]) -> list[Answer]:
    """Send the pieces, take what comes soon, then hang up; raises httptools.HttpParserError on unsound answers."""
    with Peer(port) as peer:
        try:
            for piece in pieces:
                peer.send(piece)
            return peer.soon(0.03)
        except OSError:
            return []


@settings(max_examples=200, derandomize=True, deadline=None)
@given(pieces=conversations)
@example(pieces=[b"\x80"])
@example(pieces=[b"GET * HTTP/1.1\r\nHost: t\r\n\r\n"])
def test_any_bytes_get_silence_or_sound_http(patient: int, pieces: list[bytes]) -> None:
    try:
        answers = hear(patient, pieces)
    except httptools.HttpParserError as error:
        raise AssertionError("the answer is no HTTP") from error
    for answer in answers:
        assert answer.status in {100, 101, 200, 404, 413} or answer.status in {400, 431}
        if answer.status in {400, 431}:
            assert_refusal(answer, answer.status, {400: "InvalidParameter", 431: "BadRequest.TooLarge"}[answer.status])
    assert ask(patient, GET_OK).json == {"ok": True}
