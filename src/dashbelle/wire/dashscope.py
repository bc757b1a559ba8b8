"""DashScope's native replies as pure functions: vocabulary -> bytes; reading requests is bodies.py's job.

Key order and spelling follow recorded replies of the cloud. Objects are put together from constant bytes, because
this runs once per token; only texts pass through a JSON encoder.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import msgspec

from dashbelle.errors import DashbelleError
from dashbelle.vocabulary import Delta, FinishReason, TokenLogprob, Usage
from dashbelle.wire.escapes import escape
from dashbelle.wire.logprobs import encode_tokens

HEARTBEAT = b":\n"
"""A comment line without the empty line: with one, httpx-sse dispatches an event with empty data."""

_RESULT_EVENT = b'id:%d\nevent:result\n:HTTP_STATUS/200\ndata:{"output":%b,"usage":%b,"request_id":%b}\n\n'
_ERROR_EVENT = b"id:%d\nevent:error\n:HTTP_STATUS/%d\ndata:%b\n\n"
_TEXT_OUTPUT = b'{"finish_reason":"%b","text":"%b"}'
_MESSAGE_DELTA = b'{"choices":[{"message":{"content":%b,"role":"assistant"},"index":%d,"finish_reason":"%b"%b}]}'
_CHOICE = b'{"finish_reason":"%b","index":%d,"message":{"role":"assistant","content":%b}%b}'
_LOGPROBS = b',"logprobs":{"content":[%b]}'
_FINISH: dict[FinishReason | None, bytes] = {None: b"null", "stop": b"stop", "length": b"length"}
"""On the wire "null" is a word of four letters, not JSON's null."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """How a caller wants to be answered."""

    as_message: bool = False
    """`choices[].message` instead of `text`."""
    incremental: bool = False
    """Each event holds only the new piece instead of the whole text so far."""
    as_parts: bool = False
    """A message's content is a list with one part of text, as the multimodal route has it."""

    logprobs: bool = False
    """Each choice tells the probabilities of its tokens; a message only."""
    top_logprobs: int = 0

    def content(self, text: bytes | bytearray) -> bytes:
        """A message's content, of an escaped text."""
        return (b'[{"text":"%b"}]' if self.as_parts else b'"%b"') % text


class Outputs:
    """The `output` object of each event of one streamed call."""

    def __init__(self, form: ReplyForm) -> None:
        self._form = form
        # Escaped texts are kept and appended to, so that a long cumulative answer is not escaped again per token.
        self._so_far: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._tokens: defaultdict[int, list[bytes]] = defaultdict(list)

    def of(self, delta: Delta) -> bytes:
        """`delta` as an object; the text is new or so far, as the form says."""
        text: bytes | bytearray = escape(delta.text)
        if not self._form.incremental:
            so_far = self._so_far[delta.index]
            so_far += text
            text = so_far
        if self._form.as_message:
            logprobs = self._logprobs(delta) if self._form.logprobs else b""
            return _MESSAGE_DELTA % (self._form.content(text), delta.index, _FINISH[delta.finish], logprobs)
        return _TEXT_OUTPUT % (_FINISH[delta.finish], text)

    def _logprobs(self, delta: Delta) -> bytes:
        tokens = self._tokens[delta.index] if not self._form.incremental else []
        tokens += [encode_tokens(delta.logprobs, self._form.top_logprobs)] if delta.logprobs else []
        return _LOGPROBS % b",".join(tokens)


class Events:
    """The server-sent events of one call, numbered from 1."""

    def __init__(self, request_id: str, form: ReplyForm) -> None:
        self._request_id = request_id
        self._quoted_id = _encode(request_id)
        self._outputs = Outputs(form)
        self._count = 0

    def result(self, delta: Delta, usage: Usage) -> bytes:
        """One `event:result`; `usage` counts everything so far, `delta` included."""
        self._count += 1
        return _RESULT_EVENT % (self._count, self._outputs.of(delta), encode_usage(usage), self._quoted_id)

    def error(self, error: DashbelleError) -> bytes:
        """One `event:error`, which must be the last event. The Python SDK wants no space behind `event:`."""
        self._count += 1
        return _ERROR_EVENT % (self._count, error.status, encode_error(error, self._request_id))

    def end(self, _usage: Usage) -> bytes:
        """Nothing: no `[DONE]`, which the Python SDK takes for an error."""
        return b""


class Answer:
    """The whole answer of one call: a fold over its deltas."""

    def __init__(self, form: ReplyForm) -> None:
        self._form = form
        self._texts: defaultdict[int, list[str]] = defaultdict(list)
        self._tokens: defaultdict[int, list[TokenLogprob]] = defaultdict(list)
        self._finish: dict[int, bytes] = {}

    def add(self, delta: Delta) -> None:
        """Take the next delta of any choice."""
        self._texts[delta.index].append(delta.text)
        self._tokens[delta.index] += delta.logprobs
        if delta.finish is not None:
            self._finish[delta.index] = _FINISH[delta.finish]

    def output(self) -> bytes:
        """The `output` object, once every choice has finished; raises KeyError before."""
        if not self._form.as_message:
            return _TEXT_OUTPUT % (self._finish[0], self._text(0))
        return b'{"choices":[%b]}' % b",".join(self._choice(index) for index in sorted(self._texts))

    def _choice(self, index: int) -> bytes:
        tokens = encode_tokens(self._tokens[index], self._form.top_logprobs)
        logprobs = _LOGPROBS % tokens if self._form.logprobs else b""
        return _CHOICE % (self._finish[index], index, self._form.content(self._text(index)), logprobs)

    def _text(self, index: int) -> bytes:
        return escape("".join(self._texts[index]))


def encode_usage(usage: Usage) -> bytes:
    """The `usage` object of an event."""
    return b'{"total_tokens":%d,"input_tokens":%d,"output_tokens":%d}' % (
        usage.total_tokens,
        usage.input_tokens,
        usage.output_tokens,
    )


def encode_answer(answer: Answer, usage: Usage, request_id: str) -> bytes:
    """The body of a reply that is not streamed."""
    # The recorded order of the counts differs from the events'.
    counts = b'{"total_tokens":%d,"output_tokens":%d,"input_tokens":%d}' % (
        usage.total_tokens,
        usage.output_tokens,
        usage.input_tokens,
    )
    return b'{"output":%b,"usage":%b,"request_id":%b}' % (answer.output(), counts, _encode(request_id))


def encode_error(error: DashbelleError, request_id: str) -> bytes:
    """The one error form of the native protocol, for HTTP bodies and the data of `event:error`."""
    return _encode({"code": error.code, "message": error.message, "request_id": request_id})
