"""Text as the inside of a JSON string that any client can read out of an event stream."""

from __future__ import annotations

import msgspec

_encode = msgspec.json.Encoder().encode


def escape(text: str) -> bytes:
    """`text` as the inside of a JSON string.

    Line ends beyond ASCII are escaped too: clients that split lines as Python's str.splitlines does (httpx) would
    see a cut event.
    """
    inside = _encode(text)[1:-1]
    if text.isascii():
        return inside
    return (
        inside.replace(b"\xc2\x85", b"\\u0085")
        .replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
    )
