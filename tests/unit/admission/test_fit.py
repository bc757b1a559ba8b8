"""Fit: every value resolved, both numbers in a refusal, nothing truncated."""

from __future__ import annotations

import pytest

from dashbelle.admission.fit import check_size, fit
from dashbelle.errors import InputTooLong, InvalidParameter
from dashbelle.vocabulary import AdmittedPrompt, Defaults, Sampling, Stops

DEFAULTS = Defaults(temperature=0.5, top_p=0.85, top_k=30, repetition_penalty=1.0, max_tokens=8)


def admit(tokens: int, sampling: Sampling = Sampling(), context_tokens: int = 20) -> AdmittedPrompt:  # noqa: B008 - frozen
    return fit(
        [7] * tokens,
        sampling,
        defaults=DEFAULTS,
        template_stops=Stops(texts=("END",)),
        context_tokens=context_tokens,
        seed=42,
    )


def test_what_the_caller_left_out_is_the_models_default() -> None:
    prompt = admit(3)
    assert prompt == AdmittedPrompt(
        token_ids=(7, 7, 7),
        max_tokens=8,
        temperature=0.5,
        top_p=0.85,
        top_k=30,
        seed=42,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        stops=Stops(texts=("END",)),
    )


def test_what_the_caller_gave_wins_even_when_it_is_zero() -> None:
    prompt = admit(3, Sampling(temperature=0.0, top_k=0, seed=0, max_tokens=2, stops=Stops(texts=("x",))))
    assert (prompt.temperature, prompt.top_k, prompt.seed, prompt.max_tokens) == (0.0, 0, 0, 2)
    assert prompt.stops.texts == ("x", "END")
    assert prompt.greedy


def test_top_k_one_is_greedy() -> None:
    assert admit(3, Sampling(top_k=1)).greedy
    assert not admit(3).greedy


def test_extreme_values_are_brought_within_what_arithmetic_bears() -> None:
    assert admit(1, Sampling(temperature=1e-300)).temperature == 1e-4
    assert admit(1, Sampling(repetition_penalty=1e-300)).repetition_penalty == 0.01
    assert admit(1, Sampling(repetition_penalty=1e300)).repetition_penalty == 100.0


def test_the_answer_gets_what_the_context_leaves() -> None:
    assert admit(15).max_tokens == 5
    assert admit(19).max_tokens == 1


@pytest.mark.parametrize("tokens", [0, 20, 100])
def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(tokens: int) -> None:
    with pytest.raises(InputTooLong, match=rf"should be \[1, 19\], but the prompt has {tokens} tokens"):
        admit(tokens)


def test_max_tokens_beyond_the_context_is_refused_with_the_range() -> None:
    assert admit(1, Sampling(max_tokens=19)).max_tokens == 19
    with pytest.raises(InvalidParameter, match=r"Range of max_tokens should be \[1, 19\]"):
        admit(1, Sampling(max_tokens=20))


def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenized() -> None:
    check_size("好" * 19, longest_piece=3, context_tokens=20)
    with pytest.raises(InputTooLong, match="the prompt has 20 tokens"):
        check_size("好" * 20, longest_piece=3, context_tokens=20)
