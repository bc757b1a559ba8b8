"""Bytes that nobody thought of: the answer is silence and the end, or sound HTTP, and the server lives on."""

from __future__ import annotations

from itertools import pairwise

import httptools
from front_peer import GET_OK, Answer, Peer, ask, assert_refusal, chunked, get, post
from hypothesis import example, given, settings
from hypothesis import strategies as st

SOUND = [
    GET_OK,
    GET_OK * 3,
    b"GET /ok HTTP/1.0\r\n\r\n",
    get("/stream?n=2&gap=0.001") + GET_OK,
    get("/%C3%A4/../?a=b&c"),
    post("/see", b"abc"),
    post("/see", b"abc") + GET_OK,
    post("/see", b"abc", b"Expect: 100-continue\r\n"),
    post("/see", b"abc", b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + GET_OK,
    post("/decline", b"abc", b"Connection: close\r\n"),
    chunked("/see", b"3;e=f\r\nabc\r\n0\r\nX: y\r\n\r\n") + GET_OK,
]
SPICES = [b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b",", b";", b"0", b"\xff", b"HTTP/1.1", b"Host: u\r\n"]
SPICES += [
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: websocket\r\n",
    b"Connection: close\r\n",
]

places = st.floats(0, 1, exclude_max=True)
edits = st.tuples(places, st.integers(0, 4), st.sampled_from(SPICES) | st.binary(max_size=4))


def edit(request: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """Replace some bytes at each place."""
    for place, removed, added in changes:
        at = int(place * len(request))
        request = request[:at] + added + request[at + removed :]
    return request


def cut(request: bytes, at: list[float]) -> list[bytes]:
    """The request as it may arrive: in pieces."""
    edges = [0, *sorted(int(place * len(request)) for place in at), len(request)]
    return [request[start:end] for start, end in pairwise(edges)]


damaged = st.builds(edit, st.sampled_from(SOUND), st.lists(edits, max_size=2))
conversations = st.builds(cut, damaged | damaged | st.binary(max_size=40), st.lists(places, max_size=2))


def hear(port: int, pieces: list[bytes]) -> list[Answer]:
    """Send the pieces, take what comes soon, then hang up; raises httptools.HttpParserError on unsound answers."""
    with Peer(port) as peer:
        try:
            for piece in pieces:
                peer.send(piece)
            return peer.soon(0.02)
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
        assert answer.status in {100, 101, 200, 400, 404, 413, 431}
        if answer.status in {400, 431}:
            assert_refusal(answer, answer.status, {400: "InvalidParameter", 431: "BadRequest.TooLarge"}[answer.status])
    assert ask(patient, GET_OK).json == {"ok": True}
