"""Does the prompt fit its model? The only maker of AdmittedPrompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from dashbelle.errors import InputTooLong, InvalidParameter
from dashbelle.vocabulary import AdmittedPrompt, Defaults, Sampling, Stops

LEAST_TEMPERATURE = 1e-4
"""Beneath it a distribution is one token anyway, and single-precision arithmetic divides by nearly nothing."""
PENALTY_BOUNDS = (0.01, 100.0)
"""The protocol allows any repetition penalty above 0; beyond these nothing changes but the risk of overflow."""

_Value = TypeVar("_Value", int, float)


def check_size(text: str, longest_piece: int, context_tokens: int) -> None:
    """Refuse a text that cannot fit, whatever its tokens are, before anybody tokenizes it.

    Raises InputTooLong with the least number of tokens that the text can have.
    """
    least = len(text.encode()) // longest_piece
    if least >= context_tokens:
        raise InputTooLong(least, context_tokens - 1)


def fit(
    token_ids: Sequence[int],
    sampling: Sampling,
    *,
    defaults: Defaults,
    template_stops: Stops,
    context_tokens: int,
    seed: int,
) -> AdmittedPrompt:
    """Resolve every value and leave room for at least one token of answer.

    An answer may be shorter than max_tokens when the context ends first; it then finishes with "length". Raises
    InputTooLong, and InvalidParameter for max_tokens beyond the context.
    """
    limit = context_tokens - 1
    if not 1 <= len(token_ids) <= limit:
        raise InputTooLong(len(token_ids), limit)
    if sampling.max_tokens is not None and sampling.max_tokens > limit:
        raise InvalidParameter(f"Range of max_tokens should be [1, {limit}]")
    room = context_tokens - len(token_ids)
    return AdmittedPrompt(
        token_ids=tuple(token_ids),
        max_tokens=min(_or(sampling.max_tokens, defaults.max_tokens), room),
        temperature=_sane_temperature(_or(sampling.temperature, defaults.temperature)),
        top_p=_or(sampling.top_p, defaults.top_p),
        top_k=_or(sampling.top_k, defaults.top_k),
        seed=_or(sampling.seed, seed),
        repetition_penalty=min(
            max(_or(sampling.repetition_penalty, defaults.repetition_penalty), PENALTY_BOUNDS[0]), PENALTY_BOUNDS[1]
        ),
        presence_penalty=_or(sampling.presence_penalty, 0.0),
        stops=Stops(
            texts=(*sampling.stops.texts, *template_stops.texts),
            token_ids=(*sampling.stops.token_ids, *template_stops.token_ids),
        ),
        frequency_penalty=_or(sampling.frequency_penalty, 0.0),
        logprobs=sampling.logprobs,
        json_schema=sampling.json_schema,
    )


def _sane_temperature(value: float) -> float:
    return value if value == 0.0 else max(value, LEAST_TEMPERATURE)


def _or(value: _Value | None, default: _Value) -> _Value:
    return default if value is None else value
