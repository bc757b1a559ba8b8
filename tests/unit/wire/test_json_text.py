"""JSON from strangers: what is refused, and that checking stays cheap."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import InvalidParameter
from dashbelle.wire.json_text import MAX_DEPTH, MAX_VALUES, decode

VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":[1,2.5,null,true]}', {"a": [1, 2.5, None, True]}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (rb'"\u4f60\ud83d\ude00"', "你😀"),
        (rb'"\u0000\r\n"', "\0\r\n"),
        ('"\'[{😀\\""'.encode(), "'[{😀\""),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
        (rb'"\\\"' + b"[" * 1000 + b'"', '\\"' + "[" * 1000),
        (b"18446744073709551615", 2**64 - 1),
    ],
)
def test_json_is_decoded(text: bytes, value: object) -> None:
    assert decode(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  ",
        b"{",
        b"{'a':1}",
        b"[1,]",
        b'{"a":1} x',
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"1" * 5000,
        b"01",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\x80"',
        rb'"\ud800"',
        rb'"\ud800\u0041"',
        rb'"\udc00"',
        b'"a\nb"',
        '{"a":1}'.encode("utf-16"),
        b"\x1f\x8b\x08\x00",
    ],
)
def test_what_is_no_strict_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidParameter, match=r"^Required body invalid, please check the request body format\.$"):
        decode(text)


def test_depth_is_bounded_exactly() -> None:
    assert decode(nested(MAX_DEPTH)) is not None
    assert decode(b"[" + nested(MAX_DEPTH - 1) + b",[]]") is not None
    with pytest.raises(InvalidParameter):
        decode(nested(MAX_DEPTH + 1))
    with pytest.raises(InvalidParameter):
        decode(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1))


def test_brackets_within_strings_are_no_depth_and_cannot_hide_any() -> None:
    many = b"[" * 100 + b'"' + rb"\\\"]]]]" * 100 + b'"' + b"]" * 100
    with pytest.raises(InvalidParameter):
        decode(many)
    with pytest.raises(InvalidParameter):
        decode(rb'["\\",' + nested(100) + b"]")
    assert decode(b'["' + rb"\\\"[[[[" * 100 + b'"]') == ['\\"[[[[' * 100]


def test_the_number_of_values_is_bounded() -> None:
    assert decode(b"[" + b"1," * (MAX_VALUES - 1) + b"1]") is not None
    with pytest.raises(InvalidParameter):
        decode(b"[" + b"1," * MAX_VALUES + b"1]")
    with pytest.raises(InvalidParameter):
        decode(b"[" + b"[]" * MAX_VALUES + b"]")


MEBIBYTE = 1024 * 1024
HOSTILE = {
    "nested arrays": b"[" * (10 * MEBIBYTE),
    "nested objects": b'{"a":' * (2 * MEBIBYTE),
    "empty arrays": b"[" + b"[]," * (4 * MEBIBYTE) + b"1]",
    "empty strings": b"[" + b'"",' * (4 * MEBIBYTE) + b"1]",
    "quotes": b'"' * (10 * MEBIBYTE),
    "closers": b"[" * 100 + b"]" * (10 * MEBIBYTE),
    "open string of escaped quotes": b"[" * 100 + b'"' + rb"\"" * (5 * MEBIBYTE),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_ten_megabytes_of_hostility_cost_little(name: str) -> None:
    started = time.process_time()
    with pytest.raises(InvalidParameter):
        decode(HOSTILE[name])
    assert time.process_time() - started < 2  # about 0.05 here; anything quadratic takes minutes


@given(VALUES)
def test_every_json_value_survives(value: object) -> None:
    assert decode(json.dumps(value).encode()) == value
    assert decode(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary())
def test_any_bytes_give_a_value_or_a_refusal(text: bytes) -> None:
    try:
        decode(text)
    except InvalidParameter:
        return
    json.loads(text.decode("utf-8-sig"))
