"""Tokens and their probabilities as JSON, the same in the native and the compatible protocol."""

from __future__ import annotations

from collections.abc import Iterable

from dashbelle.errors import InvalidParameter
from dashbelle.vocabulary import TokenLogprob
from dashbelle.wire.escapes import escape

MAX_TOP = 1
TOO_MANY = (
    f"Range of top_logprobs should be [0, {MAX_TOP}]: the engine tells the probability of the token that it chose, "
    "and of no other."
)
LEAST = -9999.0
"""JSON has no infinity; clients know this number."""


def encode_tokens(tokens: Iterable[TokenLogprob], top: int) -> bytes:
    """The entries of a `content` list, without its brackets; `top` is 0 or 1."""
    return b",".join(_entry(token, top) for token in tokens)


def read_top(name: str, value: object) -> int:
    """How many of the likeliest tokens are asked for at each place. Raises InvalidParameter."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(f"'{name}' must be Integer")
    if not 0 <= value <= MAX_TOP:
        raise InvalidParameter(TOO_MANY)
    return value


def spelling(piece: bytes) -> str:
    """A token as text; one that is no whole characters as OpenAI writes it, `bytes:\\xe4\\xbd`."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def finite(logprob: float) -> float:
    """`logprob`, or the least that JSON is told."""
    return max(logprob, LEAST)


def _entry(token: TokenLogprob, top: int) -> bytes:
    body = b'"token":"%b","bytes":[%b],"logprob":%b' % (
        escape(spelling(token.piece)),
        ",".join(map(str, token.piece)).encode(),
        repr(finite(token.logprob)).encode(),
    )
    return b'{%b,"top_logprobs":[%b]}' % (body, b"{%b}" % body if top else b"")
