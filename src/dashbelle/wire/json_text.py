"""Untrusted bytes -> JSON values, with depth and size bounded before the first object is built."""

from __future__ import annotations

from itertools import accumulate

import msgspec

from dashbelle.errors import InvalidParameter

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Objects, arrays and commas together. 16 MB of `[[],[],...` would else become 300 MB of lists."""

_BOM = b"\xef\xbb\xbf"
_BRACKETS = b"[]{}"
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")
"""Brackets as signed bytes: one level deeper, one level up."""
_NOT_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))


def decode(text: bytes) -> object:
    """The value that `text` spells: strict UTF-8, no NaN, no lone surrogate, at most MAX_DEPTH levels deep.

    A leading byte order mark is allowed. Raises InvalidParameter; never says what was found, since it may be a prompt.
    """
    text = text.removeprefix(_BOM)
    if not _is_bounded(text):
        raise _malformed()
    try:
        value: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # From None: a UnicodeDecodeError carries the whole body.
        raise _malformed() from None
    return value


def _malformed() -> InvalidParameter:
    return InvalidParameter("Required body invalid, please check the request body format.")


def _is_bounded(text: bytes) -> bool:
    """Whether brackets nest within MAX_DEPTH and values number at most MAX_VALUES; linear, a few passes in C.

    Exact up to the first syntax error, where the parser stops anyway.
    """
    openers = _openers(text)
    if openers <= MAX_DEPTH and openers + text.count(b",") <= MAX_VALUES:
        return True
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > 4 * MAX_VALUES:  # a key and a string for each value
        return False
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    brackets = outside_strings.translate(_STEPS, _NOT_BRACKETS)
    if _openers(outside_strings) + outside_strings.count(b",") > MAX_VALUES or len(brackets) > 2 * MAX_VALUES:
        return False
    return max(accumulate(memoryview(brackets).cast("b")), default=0) <= MAX_DEPTH


def _openers(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")
