"""Heads that two servers could read in two ways, and bytes that are no HTTP: refused once, in our form."""

from __future__ import annotations

import pytest
from front_peer import GET_OK, HOST, assert_refusal, chunked, exchange

HIDDEN = b"GET /left HTTP/1.1\r\nHost: t\r\n\r\n"
"""What a smuggler wants answered on somebody else's connection."""


def head(*fields: bytes, start: bytes = b"POST /see HTTP/1.1", host: bytes = HOST) -> bytes:
    return start + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


SMUGGLING = {
    "length and encoding": head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "encoding and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n",
    "two lengths": head(b"Content-Length: 5", b"Content-Length: 0") + b"abcde",
    "two equal lengths": head(b"Content-Length: 5", b"Content-Length: 5") + b"abcde",
    "length list": head(b"Content-Length: 5, 5") + b"abcde",
    "signed length": head(b"Content-Length: +5") + b"abcde",
    "negative length": head(b"Content-Length: -1"),
    "hexadecimal length": head(b"Content-Length: 0x5") + b"abcde",
    "empty length": head(b"Content-Length:"),
    "spaced length": head(b"Content-Length: 5 0"),
    "huge length": head(b"Content-Length: " + b"9" * 30),
    "long zero length": head(b"Content-Length: " + b"0" * 5000 + b"5") + b"abcde",
    "unknown encoding": head(b"Transfer-Encoding: gzip"),
    "encoding list": head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "chunked not last": head(b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n",
    "two encodings": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "two encodings, first odd": head(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "near encoding": head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "identity encoding": head(b"Transfer-Encoding: identity"),
    "control byte in encoding": head(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "folded encoding": head(b"Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n",
    "encoding in HTTP/1.0": head(b"Transfer-Encoding: chunked", start=b"POST /see HTTP/1.0") + b"0\r\n\r\n",
    "space before colon": head(b"Content-Length : 5") + b"abcde",
    "space before encoding's colon": head(b"Transfer-Encoding : chunked") + b"0\r\n\r\n",
}
BROKEN_CHUNKS = {
    "no size": b"\r\n0\r\n\r\n",
    "odd size": b"xyz\r\nabc\r\n0\r\n\r\n",
    "prefixed size": b"0x3\r\nabc\r\n0\r\n\r\n",
    "signed size": b"-3\r\nabc\r\n0\r\n\r\n",
    "spaced size": b"3 \r\nabc\r\n0\r\n\r\n",
    "overflowing size": b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n",
    "longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "bare line feeds": b"3\nabc\n0\n\n",
    "control byte in extension": b"3;\x00\r\nabc\r\n0\r\n\r\n",
    "line feed in extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
}
MALFORMED = {
    "no host": head(start=b"GET /ok HTTP/1.1", host=b""),
    "two hosts": head(HOST.strip(), start=b"GET /ok HTTP/1.1"),
    "empty host": head(start=b"GET /ok HTTP/1.1", host=b"Host:\r\n"),
    "path in host": head(start=b"GET /ok HTTP/1.1", host=b"Host: t/v1/models?\r\n"),
    "user in host": head(start=b"GET /ok HTTP/1.1", host=b"Host: a@t\r\n"),
    "two hosts in HTTP/1.0": head(HOST.strip(), start=b"GET /ok HTTP/1.0"),
    "HTTP/0.9": b"GET /ok\r\n\r\n",
    "HTTP/1.2": head(start=b"GET /ok HTTP/1.2"),
    "HTTP/2.0": head(start=b"GET /ok HTTP/2.0"),
    "HTTP/9.9": head(start=b"GET /ok HTTP/9.9"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "other protocol": head(start=b"GET /ok FTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "zero bytes": b"\x00" * 20,
    "lower-case method": head(start=b"get /ok HTTP/1.1"),
    "unknown method": head(start=b"BREW /ok HTTP/1.1"),
    "CONNECT": b"CONNECT t:443 HTTP/1.1\r\nHost: t:443\r\n\r\n",
    "space in target": head(start=b"GET /o k HTTP/1.1"),
    "control byte in target": head(start=b"GET /o\x01k HTTP/1.1"),
    "high byte in target": head(start=b"GET /\xe4 HTTP/1.1"),
    "fragment in target": head(start=b"GET /ok#x HTTP/1.1"),
    "relative target": head(start=b"GET ok HTTP/1.1"),
    "folded field": head(b"X: a\r\n b", start=b"GET /ok HTTP/1.1"),
    "folded empty field": head(b"X:\r\n b", start=b"GET /ok HTTP/1.1"),
    "blank first": b"GET /ok HTTP/1.1\r\n " + HOST + b"\r\n",
    "space in name": head(b"X A: b", start=b"GET /ok HTTP/1.1"),
    "space after name": head(b"X : b", start=b"GET /ok HTTP/1.1"),
    "no name": head(b": b", start=b"GET /ok HTTP/1.1"),
    "no colon": head(b"X", start=b"GET /ok HTTP/1.1"),
    "zero in name": head(b"X\x00: b", start=b"GET /ok HTTP/1.1"),
    "zero in value": head(b"X: a\x00b", start=b"GET /ok HTTP/1.1"),
    "control byte in value": head(b"X: a\x01b", start=b"GET /ok HTTP/1.1"),
    "delete in value": head(b"X: a\x7fb", start=b"GET /ok HTTP/1.1"),
    "bare carriage return in value": head(b"X: a\rb", start=b"GET /ok HTTP/1.1"),
    "bare line feeds": b"GET /ok HTTP/1.1\nHost: t\n\n",
    "bare line feed in the head": b"GET /ok HTTP/1.1\r\nHost: t\nX: y\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", SMUGGLING.values(), ids=SMUGGLING)
def test_a_head_with_two_readings_gets_one_refusal_and_nothing_behind_it_is_served(
    front: int, request_bytes: bytes
) -> None:
    (answer,) = exchange(front, request_bytes + HIDDEN)
    assert_refusal(answer, 400, "InvalidParameter")


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_a_broken_chunk_gets_one_refusal_and_nothing_behind_it_is_served(front: int, body: bytes) -> None:
    (answer,) = exchange(front, chunked("/see", body) + HIDDEN)
    assert_refusal(answer, 400, "InvalidParameter")


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_head_is_refused(front: int, request_bytes: bytes) -> None:
    (answer,) = exchange(front, request_bytes)
    assert_refusal(answer, 400, "InvalidParameter")


def test_a_refusal_never_shows_the_offending_bytes(front: int) -> None:
    (answer,) = exchange(front, head(b"Authorization: Bearer sk-canary\x00"))
    assert b"canary" not in answer.body


def test_each_refusal_has_an_id_of_its_own(front: int) -> None:
    ids = {exchange(front, b"\x00")[0].json["request_id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET_OK,
        b"\r\n" + GET_OK,
        head(start=b"GET /ok HTTP/1.0", host=b""),
        head(start=b"GET http://t/ok HTTP/1.1"),
        head(b"Content-Length: 0005 ") + b"abcde",
        head(b"Transfer-Encoding: Chunked ") + b"0\r\n\r\n",
        head(b"X: caf\xe9", start=b"GET /ok HTTP/1.1"),
        head(start=b"GET /ok HTTP/1.1", host=b"Host: [::1]:8080\r\n"),
    ],
)
def test_an_unusual_but_sound_head_is_served(front: int, request_bytes: bytes) -> None:
    answers = exchange(front, request_bytes + b"\x00")
    assert answers[0].status == 200
