"""/compatible-mode/v1: chat completions and text completions for OpenAI's clients, as JSON or as server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dashbelle.errors import UnsupportedModel
from dashbelle.vocabulary import Call, Caller
from dashbelle.wire.callers import caller_of
from dashbelle.wire.exchange import Exchange
from dashbelle.wire.http import CallPipeline, answer_events, answer_whole, check_headers, read_json, workspace
from dashbelle.wire.openai_choices import ChatChoices, Choices, TextChoices
from dashbelle.wire.openai_replies import Answer, Events, ReplyHead
from dashbelle.wire.openai_requests import CompletionRequest, parse_chat, parse_text, read_named_model

PREFIX = "/compatible-mode/v1"
CHAT_ALIAS = "/api/v1/chat/completions"
"""Where the Python SDK 2.x posts in its "openai" protocol when the native base is configured."""


class MakeChoices(Protocol):
    """Makes what writes the choices of one call."""

    def __call__(self, *, logprobs: bool, top_logprobs: int) -> Choices:
        """For one call."""
        ...


class Completions:
    """An endpoint: how its bodies are read and its choices are written. `now` is in seconds of the Unix era.

    Order of checks: key, headers, body, model, messages or prompt, parameters, then the pipeline's own.
    """

    def __init__(
        self,
        pipeline: CallPipeline,
        parse: Callable[[object], CompletionRequest],
        make_choices: MakeChoices,
        now: Callable[[], float],
    ) -> None:
        self._pipeline = pipeline
        self._parse = parse
        self._make_choices = make_choices
        self._now = now

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one POST. Raises DashbelleError; returns early if the client has left."""
        caller = await caller_of(exchange, self._pipeline)
        check_headers(exchange.headers)
        request = await read_json(exchange, self._parse)
        call = _call(exchange, caller, request)
        head = ReplyHead(exchange.request_id, request.model, self._now())
        choices = self._make_choices(logprobs=request.sampling.logprobs, top_logprobs=request.top_logprobs)
        if request.stream:
            events = Events(head, choices, include_usage=request.include_usage)
            await answer_events(exchange, self._pipeline, call, events)
        else:
            await answer_whole(exchange, self._pipeline, call, Answer(head, choices))


def chat_completions(pipeline: CallPipeline, now: Callable[[], float]) -> Completions:
    """POST /chat/completions."""
    return Completions(pipeline, parse_chat, ChatChoices, now)


def text_completions(pipeline: CallPipeline, now: Callable[[], float]) -> Completions:
    """POST /completions, the older route: a prompt as one text."""
    return Completions(pipeline, parse_text, TextChoices, now)


async def no_embeddings(exchange: Exchange, _caller: Caller) -> None:
    """POST /embeddings: no model here makes any. Raises UnsupportedModel."""
    check_headers(exchange.headers)
    model = await read_json(exchange, read_named_model)
    raise UnsupportedModel(f"Unsupported model `{model}` for OpenAI compatibility mode.")


def is_compatible(path: str) -> bool:
    """Whether errors on `path` have the compatible form."""
    return path in {CHAT_ALIAS, PREFIX} or path.startswith(f"{PREFIX}/")


def _call(exchange: Exchange, caller: Caller, request: CompletionRequest) -> Call:
    return Call(
        request_id=exchange.request_id,
        caller=caller,
        model=request.model,
        prompt=request.prompt,
        sampling=request.sampling,
        workspace=workspace(exchange.headers),
    )
