"""The engine that answers with its own prompt, byte for byte: deterministic, for tests, load tests and curiosity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from dashbelle.engine.logprobs import LogprobAligner
from dashbelle.engine.tokens import Assembler
from dashbelle.vocabulary import AdmittedPrompt, Delta


class ByteTokenizer:
    """Every byte of UTF-8 is a token: a vocabulary of 256, in which every character beyond ASCII is several tokens."""

    longest_piece = 1

    def encode(self, text: str) -> list[int]:
        """The bytes of `text`."""
        return list(text.encode())

    def piece(self, token_id: int) -> bytes:
        """The byte itself."""
        return bytes((token_id,)) if 0 <= token_id < 256 else b""

    def spelling(self, token_id: int) -> bytes:
        """The same: no byte is special."""
        return self.piece(token_id)


class EchoEngine:
    """Says the prompt again, one byte per token, as fast as asked or one token per `token_s` seconds.

    It is certain of every byte: each logprob is 0.
    """

    follows_schemas = False

    def __init__(self, *, context_tokens: int = 65_536, token_s: float = 0.0) -> None:
        self.tokenizer = ByteTokenizer()
        self.context_tokens = context_tokens
        self.restarts = 0
        self._token_s = token_s
        self._closed = False

    async def generate(self, prompt: AdmittedPrompt) -> AsyncGenerator[Delta, None]:
        """Yield the prompt's bytes, whole characters at a time."""
        assembler = Assembler(self.tokenizer, prompt.stops)
        aligner = LogprobAligner(self.tokenizer) if prompt.logprobs else None
        answer = prompt.token_ids[: prompt.max_tokens]
        finish = "length" if len(prompt.token_ids) > prompt.max_tokens else "stop"
        for place, token_id in enumerate(answer, start=1):
            await asyncio.sleep(self._token_s)
            delta = assembler.push([token_id], "length" if finish == "length" and place == len(answer) else None)
            yield delta if aligner is None else aligner.align(delta, [token_id], [0.0])
            if delta.finish:
                return
        delta = assembler.push([], "stop")
        yield delta if aligner is None else aligner.align(delta, [], [])

    def unready(self) -> str | None:
        """Echo is ready from its first moment to its last."""
        return "closed" if self._closed else None

    async def close(self) -> None:
        """Nothing to free."""
        self._closed = True
