"""The replies of the compatible protocol as pure functions: vocabulary -> bytes.

Key order follows the cloud's documented replies. As in the native protocol, objects are put together from constant
bytes, because this runs once per token.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from dashbelle.errors import DashbelleError
from dashbelle.vocabulary import Delta, FinishReason, TokenLogprob, Usage
from dashbelle.wire.escapes import escape
from dashbelle.wire.openai_choices import Choices
from dashbelle.wire.openai_errors import encode_error

DONE = b"data: [DONE]\n\n"
_EVENT = b'data: {"choices":[%b],"object":"%b","usage":%b%b}\n\n'
_WHOLE = b'{"choices":[%b],"object":"%b","usage":%b%b}'
_ERROR_EVENT = b"data: %b\n\n"

_encode = msgspec.json.Encoder().encode


class ReplyHead:
    """What every part of one reply says again. `created` is in seconds of the Unix era."""

    def __init__(self, request_id: str, model: str, created: float) -> None:
        self.request_id = request_id
        self._model = escape(model)
        self._created = int(created)

    def end(self, id_prefix: str) -> bytes:
        """The last keys of an object, with the comma before them."""
        reply_id = _encode(id_prefix + self.request_id)
        return b',"created":%d,"system_fingerprint":null,"model":"%b","id":%b' % (self._created, self._model, reply_id)


class Events:
    """The server-sent events of one call: no ids and no names, a space behind `data:`, `[DONE]` at the end."""

    def __init__(self, head: ReplyHead, choices: Choices, *, include_usage: bool) -> None:
        self._head = head
        self._choices = choices
        self._end = head.end(choices.id_prefix)
        self._include_usage = include_usage
        self._opened: set[int] = set()

    def result(self, delta: Delta, _usage: Usage) -> bytes:
        """One event, and before the first of a choice another that opens it."""
        event = self._event(self._choices.part(delta), b"null")
        if delta.index in self._opened:
            return event
        self._opened.add(delta.index)
        opening = self._choices.opening(delta.index)
        return self._event(opening, b"null") + event if opening else event

    def error(self, error: DashbelleError) -> bytes:
        """An event that clients raise as an error, then the end."""
        return _ERROR_EVENT % encode_error(error, self._head.request_id) + DONE

    def end(self, usage: Usage) -> bytes:
        """The usage, if it was asked for, then the end."""
        return (self._event(b"", encode_usage(usage)) if self._include_usage else b"") + DONE

    def _event(self, choices: bytes, usage: bytes) -> bytes:
        return _EVENT % (choices, self._choices.event_kind, usage, self._end)


class Answer:
    """The body of one call that is not streamed: a fold over its deltas."""

    def __init__(self, head: ReplyHead, choices: Choices) -> None:
        self._choices = choices
        self._end = head.end(choices.id_prefix)
        self._texts: defaultdict[int, list[str]] = defaultdict(list)
        self._tokens: defaultdict[int, list[TokenLogprob]] = defaultdict(list)
        self._finish: dict[int, FinishReason] = {}

    def add(self, delta: Delta) -> None:
        """Take the next delta of any choice."""
        self._texts[delta.index].append(delta.text)
        self._tokens[delta.index] += delta.logprobs
        if delta.finish is not None:
            self._finish[delta.index] = delta.finish

    def body(self, usage: Usage) -> bytes:
        """Once every choice has finished; raises KeyError before."""
        choices = b",".join(self._choice(index) for index in sorted(self._texts))
        return _WHOLE % (choices, self._choices.kind, encode_usage(usage), self._end)

    def _choice(self, index: int) -> bytes:
        return self._choices.whole(index, "".join(self._texts[index]), self._finish[index], self._tokens[index])


def encode_usage(usage: Usage) -> bytes:
    """The `usage` object."""
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
    )
