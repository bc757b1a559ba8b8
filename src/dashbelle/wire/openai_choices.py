"""One choice of a compatible reply as an object: of a chat completion or of a text completion; knows no reply."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

import msgspec

from dashbelle.vocabulary import Delta, FinishReason, TokenLogprob
from dashbelle.wire.escapes import escape
from dashbelle.wire.logprobs import encode_tokens, finite, spelling

_FINISH: dict[FinishReason | None, bytes] = {None: b"null", "stop": b'"stop"', "length": b'"length"'}
_OPENING = b'{"delta":{"content":"","role":"assistant"},"index":%d,"logprobs":null,"finish_reason":null}'
_CHAT_PART = b'{"delta":{"content":"%b"},"index":%d,"logprobs":%b,"finish_reason":%b}'
_CHAT_WHOLE = b'{"message":{"role":"assistant","content":"%b"},"index":%d,"logprobs":%b,"finish_reason":%b}'
_TEXT = b'{"text":"%b","index":%d,"logprobs":%b,"finish_reason":%b}'


class Choices(Protocol):
    """How the choices of one call are written."""

    kind: bytes
    """The reply's `object`, and below: that of an event's data, and what an id begins with."""
    event_kind: bytes
    id_prefix: str

    def opening(self, index: int) -> bytes:
        """What goes before the first part of a choice; may be nothing."""
        ...

    def part(self, delta: Delta) -> bytes:
        """A delta of a choice."""
        ...

    def whole(self, index: int, text: str, finish: FinishReason, tokens: Iterable[TokenLogprob]) -> bytes:
        """A choice that is over."""
        ...


class ChatChoices:
    """`message` and `delta`."""

    kind = b"chat.completion"
    event_kind = b"chat.completion.chunk"
    id_prefix = "chatcmpl-"

    def __init__(self, *, logprobs: bool = False, top_logprobs: int = 0) -> None:
        self._with_logprobs = logprobs
        self._top = top_logprobs

    def opening(self, index: int) -> bytes:
        """The role, with no text yet."""
        return _OPENING % index

    def part(self, delta: Delta) -> bytes:
        """`delta` with the new text."""
        logprobs = self._logprobs(delta.logprobs) if self._with_logprobs else b"null"
        return _CHAT_PART % (escape(delta.text), delta.index, logprobs, _FINISH[delta.finish])

    def whole(self, index: int, text: str, finish: FinishReason, tokens: Iterable[TokenLogprob]) -> bytes:
        """`message` with all the text."""
        logprobs = self._logprobs(tokens) if self._with_logprobs else b"null"
        return _CHAT_WHOLE % (escape(text), index, logprobs, _FINISH[finish])

    def _logprobs(self, tokens: Iterable[TokenLogprob]) -> bytes:
        return b'{"content":[%b],"refusal":null}' % encode_tokens(tokens, self._top)


class TextChoices:
    """`text`. Its logprobs are four lists, one of them with the places where tokens begin in the text."""

    kind = event_kind = b"text_completion"
    id_prefix = "cmpl-"

    def __init__(self, *, logprobs: bool = False, top_logprobs: int = 0) -> None:
        self._with_logprobs = logprobs
        self._top = top_logprobs
        self._offsets: defaultdict[int, int] = defaultdict(int)

    def opening(self, _index: int) -> bytes:
        """Nothing."""
        return b""

    def part(self, delta: Delta) -> bytes:
        """The new text."""
        return self._choice(delta.index, delta.text, delta.logprobs, delta.finish)

    def whole(self, index: int, text: str, finish: FinishReason, tokens: Iterable[TokenLogprob]) -> bytes:
        """All the text."""
        return self._choice(index, text, tokens, finish)

    def _choice(self, index: int, text: str, tokens: Iterable[TokenLogprob], finish: FinishReason | None) -> bytes:
        logprobs = self._logprobs(index, list(tokens)) if self._with_logprobs else b"null"
        return _TEXT % (escape(text), index, logprobs, _FINISH[finish])

    def _logprobs(self, index: int, tokens: list[TokenLogprob]) -> bytes:
        spellings = [spelling(token.piece) for token in tokens]
        values = [finite(token.logprob) for token in tokens]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += _characters(token.piece)
        top = [{name: value} for name, value in zip(spellings, values, strict=True)] if self._top else None
        lists = {"tokens": spellings, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets}
        return msgspec.json.encode(lists)


def _characters(piece: bytes) -> int:
    """How many characters begin within `piece`."""
    return sum(byte & 0xC0 != 0x80 for byte in piece)
