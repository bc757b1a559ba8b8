"""Which tokens' probabilities go with which piece of text: beside the Assembler, for the calls that ask for them."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from dashbelle.engine.base import Tokenizer
from dashbelle.vocabulary import Delta, TokenLogprob


class LogprobAligner:
    """Hands each token out with the delta that holds the end of its text.

    A token whose text a stop rule cut, wholly or in part, is never handed out, nor is one without text, such as an
    end token. So the tokens of an answer, joined, are its text as far as no rule cut into a token.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._piece = tokenizer.piece
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._decoded = 0
        """Characters that the tokens so far are worth, and below: those that have been delivered."""
        self._delivered = 0
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()
        """With the number of characters after which each token's text is delivered."""

    def align(self, delta: Delta, token_ids: Sequence[int], logprobs: Sequence[float]) -> Delta:
        """`delta`, which an Assembler made of `token_ids`, with the tokens that it completes."""
        for token_id, logprob in zip(token_ids, logprobs, strict=True):
            self._wait(self._piece(token_id), logprob)
        self._delivered += len(delta.text)
        done = []
        while self._waiting and self._waiting[0][0] <= self._delivered:
            done.append(self._waiting.popleft()[1])
        return replace(delta, logprobs=tuple(done))

    def _wait(self, piece: bytes, logprob: float) -> None:
        if not piece:
            return
        self._decoded += len(self._decoder.decode(piece))
        pending, _ = self._decoder.getstate()
        # A token that ends within a character is complete when that character is.
        self._waiting.append((self._decoded + bool(pending), TokenLogprob(piece, logprob)))
