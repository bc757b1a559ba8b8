"""POST /api/v1/tokenizer: the tokens of a prompt, as many as a call with the same body would be billed for."""

from __future__ import annotations

import asyncio
import re
from typing import Protocol

import msgspec

from dashbelle.vocabulary import Call, TokenizedPrompt
from dashbelle.wire.callers import KeyRing
from dashbelle.wire.exchange import Exchange
from dashbelle.wire.http import read_call, served_by

_MANY_TOKENS = 8192
"""From here on the reply is written beside the loop, so that streams go on meanwhile."""
_LOOKS_LIKE_A_BYTE = re.compile("<(?=0x[0-9A-F]{2}>)")
_LONE_BYTE = re.compile("[\udc80-\udcff]")
"""How Python's "surrogateescape" marks what is no part of a whole character."""


class TokenizingPipeline(KeyRing, Protocol):
    """pipeline.Pipeline, as this route sees it."""

    async def tokenize(self, call: Call) -> TokenizedPrompt:
        """The prompt's tokens. Raises errors.Refused."""
        ...


class Tokenizer:
    """The endpoint. It checks what a generation checks, parameters included, and meters nothing."""

    def __init__(self, pipeline: TokenizingPipeline) -> None:
        self._pipeline = pipeline

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one POST. Raises DashbelleError."""
        call, _ = await read_call(exchange, self._pipeline)
        tokens = await self._pipeline.tokenize(call)
        if len(tokens.token_ids) > _MANY_TOKENS:
            body = await asyncio.to_thread(encode_tokens, tokens, call.request_id)
        else:
            body = encode_tokens(tokens, call.request_id)
        await exchange.answer(200, body, served_by(tokens.served_by, call))


def encode_tokens(tokens: TokenizedPrompt, request_id: str) -> bytes:
    """The reply's body."""
    texts = [readable(spelling) for spelling in tokens.spellings]
    reply = {
        "output": {"token_ids": tokens.token_ids, "tokens": texts},
        "usage": {"input_tokens": len(tokens.token_ids)},
        "request_id": request_id,
    }
    return msgspec.json.encode(reply)


def readable(spelling: bytes) -> str:
    """A token as text; each byte that is no part of a whole character as `<0xE4>`, the way SentencePiece shows it.

    Nothing is lost: where a token's own text looks like that, its `<` is written as `<0x3C>`.
    """
    text = _LOOKS_LIKE_A_BYTE.sub("<0x3C>", spelling.decode("utf-8", "surrogateescape"))
    return _LONE_BYTE.sub(lambda byte: f"<0x{ord(byte[0]) - 0xDC00:02X}>", text)
