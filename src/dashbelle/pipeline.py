"""READ FIRST: the life of one call, from a parsed Call to metered deltas.

    bytes -> wire -> [admission -> engine -> metering] -> wire -> bytes

`Pipeline.open` finds the model, renders and tokenizes the prompt, checks that it fits and that the limits and the line
have room for it, writes a reservation, waits for a slot and starts the engine. What comes out is a `Stream`; leaving
its block, however that happens, frees the slot, settles the reservation and puts the limits right, each exactly once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from dashbelle.admission.fit import check_size, fit
from dashbelle.admission.keys import Keys
from dashbelle.admission.limits import Limiter
from dashbelle.admission.queue import RESTART_S, WaitingLine
from dashbelle.admission.schedule import Visit
from dashbelle.engine.base import Engine
from dashbelle.engine.catalog import Catalog, Served
from dashbelle.errors import (
    DashbelleError,
    DrainedAway,
    InternalError,
    InvalidParameter,
    RequestTimedOut,
    ServerDraining,
)
from dashbelle.metering.meter import Meter, Tally
from dashbelle.models.templates import BadTemplate
from dashbelle.vocabulary import AdmittedPrompt, Call, Caller, ChatPrompt, Delta, EndReason, TokenizedPrompt, Usage

END_S = 5.0
"""How long a call may take to end once it was told to."""
LONG_TEXT = 16_384
"""Characters above which a prompt is tokenized in a thread, so that other calls go on meanwhile."""

_Result = TypeVar("_Result")


class Stream:
    """The deltas of one running call, merged while nobody asks for them; every choice in turn of its arrival.

    Iteration settles the call in the ledger before it hands out the last delta, and raises errors.Failed when the
    call ends badly.
    """

    def __init__(self, served_by: str, tally: Tally, choices: int) -> None:
        self.served_by = served_by
        self._tally = tally
        self._unfinished = choices
        self._reason = EndReason.STOP
        self._pending: dict[int, Delta] = {}
        self._error: DashbelleError | None = None
        self._news = asyncio.Event()

    @property
    def usage(self) -> Usage:
        """Tokens so far, all choices together, the newest delta included."""
        return self._tally.usage

    def usage_of(self, index: int) -> Usage:
        """The same for one choice."""
        return self._tally.usage_of(index)

    def put(self, delta: Delta) -> None:
        """Take a delta from the engine. One without text waits for the next, unless it is a choice's last."""
        before = self._pending.get(delta.index)
        if before is not None:
            delta = replace(
                delta,
                text=before.text + delta.text,
                token_count=before.token_count + delta.token_count,
                logprobs=before.logprobs + delta.logprobs,
            )
        self._pending[delta.index] = delta
        if delta.text or delta.finish:
            self._news.set()

    def abort(self, error: DashbelleError) -> None:
        """End the call with `error`, after the text that is there already; the first error wins."""
        self._error = self._error or error
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        while True:
            if self._unfinished == 0:
                raise StopAsyncIteration
            delta = self._take()
            if delta is not None:
                break
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()
        self._tally.note(delta)
        if delta.finish is not None:
            self._unfinished -= 1
            self._reason = EndReason.LENGTH if delta.finish == "length" else self._reason
            if self._unfinished == 0:
                await self._tally.settle(self._reason)
        return delta

    def _take(self) -> Delta | None:
        for index, delta in self._pending.items():
            if delta.text or delta.finish:
                return self._pending.pop(index)
        return None


class Pipeline:
    """Opens calls. One per server; knows every stage, and no transport."""

    def __init__(
        self,
        keys: Keys,
        catalog: Catalog,
        lines: dict[str, WaitingLine],
        meter: Meter,
        *,
        timeout_s: float,
        limiter: Limiter | None = None,
    ) -> None:
        self._limiter = limiter or Limiter()
        self._keys = keys
        self._catalog = catalog
        self._lines = lines
        self._meter = meter
        self._timeout_s = timeout_s
        self._running: set[Stream] = set()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def identify(self, secret: str | None) -> Caller:
        """Whose key this is. Raises InvalidApiKey."""
        return await self._keys.identify(secret)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncGenerator[Stream, None]:
        """Admit and run `call`; the block's end, of whatever kind, frees its slot and settles it.

        Raises errors.Refused before anything was computed. A cancelled block means: the client has gone.
        """
        if self._draining:
            raise ServerDraining(retry_after_s=RESTART_S)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        served = self._catalog.find(call.model)
        prompts = await admit(served, call)
        self._enter()
        try:
            async with (
                self._on_slots(call, served, prompts, deadline) as tally,
                self._running_stream(served, tally, prompts, deadline) as stream,
            ):
                yield stream
        finally:
            self._leave()

    async def tokenize(self, call: Call) -> TokenizedPrompt:
        """The prompt's tokens, as many as `open` would bill; takes no slot and leaves no row.

        Raises ModelNotFound, InvalidParameter; InputTooLong only for a text that cannot fit whatever its tokens are.
        """
        served = self._catalog.find(call.model)
        return await _long_work(partial(_tokenized, served), prompt_text(served, call))

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, send the waiting ones away, let running ones end within `grace_s` seconds, then end them.

        Returns when every call is settled, or END_S after that.
        """
        self._draining = True
        for line in self._lines.values():
            line.close()
        if not await self._idle_within(grace_s):
            for stream in list(self._running):
                stream.abort(DrainedAway(retry_after_s=RESTART_S))
            await self._idle_within(END_S)

    async def _idle_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def _on_slots(
        self, call: Call, served: Served, prompts: Sequence[AdmittedPrompt], deadline: float
    ) -> AsyncGenerator[Tally, None]:
        """Limits, room, row, slots: taken in this order and given back in the other, each exactly once."""
        input_tokens = len(prompts[0].token_ids)
        max_output_tokens = sum(prompt.max_tokens for prompt in prompts)
        visit = Visit(
            key=call.caller.key_id,
            slots=len(prompts),
            input_tokens=input_tokens,
            max_output_tokens=max_output_tokens,
            deadline=deadline,
            share=self._limiter.table.share_of(call.caller.key_id),
        )
        worst_case = input_tokens + max_output_tokens
        clock = asyncio.get_running_loop().time
        with (
            self._limiter.within(call.caller, (call.model, served.name), worst_case, clock) as grant,
            self._lines[served.name].room(visit) as room,
        ):
            async with self._meter.measure(call, served.name, input_tokens, max_output_tokens) as tally, room.slot():
                tally.started()
                try:
                    yield tally
                finally:
                    grant.used_tokens = room.used_tokens = tally.usage.total_tokens

    @asynccontextmanager
    async def _running_stream(
        self, served: Served, tally: Tally, prompts: Sequence[AdmittedPrompt], deadline: float
    ) -> AsyncGenerator[Stream, None]:
        stream = Stream(served.name, tally, len(prompts))
        alarm = asyncio.get_running_loop().call_at(deadline, stream.abort, RequestTimedOut())
        producers = [
            asyncio.create_task(_produce(served.engine, prompt, index, stream)) for index, prompt in enumerate(prompts)
        ]
        self._running.add(stream)
        try:
            yield stream
        finally:
            self._running.discard(stream)
            alarm.cancel()
            for producer in producers:
                producer.cancel()
            await asyncio.gather(*producers, return_exceptions=True)

    def _enter(self) -> None:
        self._open += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._idle.set()


async def admit(served: Served, call: Call) -> list[AdmittedPrompt]:
    """One admitted prompt per choice. Raises InputTooLong, InvalidParameter."""
    token_ids = await _long_work(served.engine.tokenizer.encode, prompt_text(served, call))
    first = fit(
        token_ids,
        call.sampling,
        defaults=served.defaults,
        template_stops=served.template.stops,
        context_tokens=served.engine.context_tokens,
        seed=secrets.randbits(31),
    )
    return [replace(first, seed=(first.seed + index) % 2**63) for index in range(call.sampling.n)]


def prompt_text(served: Served, call: Call) -> str:
    """The exact text that `served` tokenizes for `call`. Raises InputTooLong, InvalidParameter."""
    _check_abilities(served, call)
    try:
        text = served.template.render(call.prompt)
    except BadTemplate as error:
        raise InvalidParameter(f"These messages do not fit the model's template: {error}") from None
    check_size(text, served.engine.tokenizer.longest_piece, served.engine.context_tokens)
    return text


def _check_abilities(served: Served, call: Call) -> None:
    """Refuse what this model cannot do, whatever the prompt says."""
    if isinstance(call.prompt, ChatPrompt) and call.prompt.uses_tools and not served.template.takes_tools:
        raise InvalidParameter("The tool call is not supported.")
    if call.sampling.json_schema is not None and not served.engine.follows_schemas:
        raise InvalidParameter("This model does not support response_format of type 'json_object' or 'json_schema'.")


def _tokenized(served: Served, text: str) -> TokenizedPrompt:
    tokenizer = served.engine.tokenizer
    token_ids = tokenizer.encode(text)
    return TokenizedPrompt(served.name, tuple(token_ids), tuple(map(tokenizer.spelling, token_ids)))


async def _long_work(work: Callable[[str], _Result], text: str) -> _Result:
    """`work(text)`, beside the loop if the text is so long that other calls would notice."""
    return await asyncio.to_thread(work, text) if len(text) > LONG_TEXT else work(text)


async def _produce(engine: Engine, prompt: AdmittedPrompt, index: int, stream: Stream) -> None:
    """Move one choice from its engine into the stream."""
    try:
        async with aclosing(engine.generate(prompt)) as deltas:
            async for delta in deltas:
                stream.put(replace(delta, index=index) if index else delta)
    except DashbelleError as error:
        stream.abort(error)
    except Exception as error:  # noqa: BLE001 - an engine's bug must end its call, not leave it waiting
        failure = InternalError()
        failure.__cause__ = error
        stream.abort(failure)
