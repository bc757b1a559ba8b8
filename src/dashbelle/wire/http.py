"""POST .../generation, text and multimodal: one call over HTTP, answered as JSON or as server-sent events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Protocol, TypeVar

from starlette.datastructures import Headers

from dashbelle.errors import AsyncNotSupported, DashbelleError, InvalidParameter
from dashbelle.vocabulary import Call, Delta, Usage
from dashbelle.wire.bodies import parse_generation
from dashbelle.wire.callers import KeyRing, caller_of
from dashbelle.wire.dashscope import HEARTBEAT, Answer, Events, ReplyForm, encode_answer
from dashbelle.wire.exchange import Exchange, Field
from dashbelle.wire.json_text import decode
from dashbelle.wire.liveness import Heartbeat, QuitWhen

_LARGE_BODY_BYTES = 1024 * 1024
"""From here on a body is parsed in a thread, so that streams go on meanwhile."""
_Request = TypeVar("_Request")
_WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class CallStream(Protocol):
    """An open call: pipeline.Stream, as the wire sees it."""

    @property
    def served_by(self) -> str:
        """The model that really answers."""
        ...

    @property
    def usage(self) -> Usage:
        """Tokens of all choices so far, the newest delta included."""
        ...

    def usage_of(self, index: int) -> Usage:
        """The same for one choice."""
        ...

    def __aiter__(self) -> AsyncIterator[Delta]:
        """Deltas, the last of each choice with `finish`; raises errors.Failed when the call ends badly."""
        ...

    async def __anext__(self) -> Delta:
        """The next delta; whole texts that piled up come as one."""
        ...


class CallPipeline(KeyRing, Protocol):
    """pipeline.Pipeline, as the wire sees it."""

    def open(self, call: Call) -> AbstractAsyncContextManager[CallStream]:
        """Admit and run `call`. Raises errors.Refused on entry."""
        ...


class Generation:
    """The endpoint; `as_parts` makes it the multimodal one, which answers in lists of parts."""

    def __init__(self, pipeline: CallPipeline, *, as_parts: bool = False) -> None:
        self._pipeline = pipeline
        self._as_parts = as_parts

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one POST. Raises DashbelleError; returns early if the client has left."""
        call, form = await read_call(exchange, self._pipeline, as_parts=self._as_parts)
        if wants_events(exchange.headers):
            await answer_events(exchange, self._pipeline, call, Events(call.request_id, form))
        else:
            await answer_whole(exchange, self._pipeline, call, WholeAnswer(form, call.request_id))


class WholeAnswer(Answer):
    """The native body of one call."""

    def __init__(self, form: ReplyForm, request_id: str) -> None:
        super().__init__(form)
        self._request_id = request_id

    def body(self, usage: Usage) -> bytes:
        """Once every choice has finished; raises KeyError before."""
        return encode_answer(self, usage, self._request_id)


class WholeForm(Protocol):
    """Deltas -> the body of an answer that is not streamed."""

    def add(self, delta: Delta) -> None:
        """Take the next delta of any choice."""
        ...

    def body(self, usage: Usage) -> bytes:
        """The answer, of which `usage` counts everything."""
        ...


class EventForm(Protocol):
    """Deltas -> the events of an answer that is streamed."""

    def result(self, delta: Delta, usage: Usage) -> bytes:
        """The events of one delta; `usage` counts its choice so far."""
        ...

    def error(self, error: DashbelleError) -> bytes:
        """The last events of an answer that ends badly."""
        ...

    def end(self, usage: Usage) -> bytes:
        """What follows the last delta, if anything; `usage` counts everything."""
        ...


async def answer_whole(exchange: Exchange, pipeline: CallPipeline, call: Call, form: WholeForm) -> None:
    """Run `call` and answer at its end. Raises DashbelleError; returns early if the client has left."""
    # Around everything that may take long: a leaving client frees its place in every phase.
    async with QuitWhen(exchange.client_left):
        async with pipeline.open(call) as stream:
            async for delta in stream:
                form.add(delta)
            body = form.body(stream.usage)
            fields = served_by(stream.served_by, call)
        await exchange.answer(200, body, fields)


async def answer_events(exchange: Exchange, pipeline: CallPipeline, call: Call, form: EventForm) -> None:
    """Run `call` and stream its answer. Raises DashbelleError; returns early if the client has left."""
    async with QuitWhen(exchange.client_left):
        async with pipeline.open(call) as stream:
            # The first delta comes before the head, so that an early error is still a status.
            first = await anext(stream)
            await exchange.begin_events(form.error, served_by(stream.served_by, call))
            await exchange.send_event(form.result(first, stream.usage_of(first.index)))
            async with Heartbeat(exchange, HEARTBEAT):
                async for delta in stream:
                    await exchange.send_event(form.result(delta, stream.usage_of(delta.index)))
            tail = form.end(stream.usage)
        if tail:
            await exchange.send_event(tail)
        await exchange.end_events()


async def read_call(exchange: Exchange, keys: KeyRing, *, as_parts: bool = False) -> tuple[Call, ReplyForm]:
    """The call of a POST. Checked in this order: key, headers, body, model, input, parameters; raises Refused."""
    caller = await caller_of(exchange, keys)
    check_headers(exchange.headers)
    request = await read_json(exchange, partial(parse_generation, as_parts=as_parts))
    call = Call(
        request_id=exchange.request_id,
        caller=caller,
        model=request.model,
        prompt=request.prompt,
        sampling=request.parameters.sampling,
        workspace=workspace(exchange.headers),
    )
    return call, request.parameters.form


async def read_json(exchange: Exchange, parse: Callable[[object], _Request]) -> _Request:
    """What `parse` makes of the body, beside the loop if that is large. Raises as the two do."""
    body = await exchange.read_body()
    if len(body) > _LARGE_BODY_BYTES:
        return await asyncio.to_thread(lambda: parse(decode(body)))
    return parse(decode(body))


def served_by(name: str, call: Call) -> list[Field]:
    """Says so when another model answers than the one that was asked for."""
    return [] if name == call.model else [(b"x-dashbelle-served-by", name.encode())]


def check_headers(headers: Headers) -> None:
    """Refuse what this route cannot do. Raises AsyncNotSupported, InvalidParameter."""
    if _enabled(headers, "x-dashscope-async"):
        raise AsyncNotSupported
    if "x-dashscope-encryptionkey" in headers:
        raise InvalidParameter("Encrypted requests are not supported.")
    media_type = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    # Strict, because a browser sends text/plain across sites without asking.
    if media_type != "application/json":
        raise InvalidParameter("Content-Type must be application/json.")


def wants_events(headers: Headers) -> bool:
    """Either of two headers asks for server-sent events."""
    return _enabled(headers, "x-dashscope-sse") or "text/event-stream" in headers.get("accept", "").lower()


def workspace(headers: Headers) -> str | None:
    """The caller's workspace, if it looks like one."""
    name = headers.get("x-dashscope-workspace", "")
    return name if _WORKSPACE.fullmatch(name) else None


def _enabled(headers: Headers, name: str) -> bool:
    return headers.get(name, "").strip().lower() == "enable"
