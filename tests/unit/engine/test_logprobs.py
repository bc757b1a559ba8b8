"""Tokens go with the text that they end in, and none is told whose text is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dashbelle.engine.echo import ByteTokenizer
from dashbelle.engine.logprobs import LogprobAligner
from dashbelle.engine.tokens import Assembler
from dashbelle.vocabulary import Delta, Stops, TokenLogprob

END = 256
"""An id without text."""
TEXTS = st.text(alphabet="ab好😀", max_size=30)


def aligned(ids: list[int], stops: Stops = Stops(), group: int = 1) -> list[Delta]:  # noqa: B008 - it is immutable
    """What becomes of ids that come in groups; the logprob of each is its place, below zero."""
    assembler, aligner = Assembler(ByteTokenizer(), stops), LogprobAligner(ByteTokenizer())
    deltas = []
    for start in range(0, len(ids), group):
        some = ids[start : start + group]
        deltas.append(aligner.align(assembler.push(some, None), some, [-float(start + n) for n in range(len(some))]))
        if deltas[-1].finish:
            return deltas
    return [*deltas, aligner.align(assembler.push([], "stop"), [], [])]


def tokens(deltas: list[Delta]) -> list[TokenLogprob]:
    return [token for delta in deltas for token in delta.logprobs]


def pieces(deltas: list[Delta]) -> bytes:
    return b"".join(token.piece for token in tokens(deltas))


@given(TEXTS, st.integers(1, 5))
def test_the_tokens_of_each_delta_are_its_text(text: str, group: int) -> None:
    deltas = aligned(list(text.encode()), group=group)
    for delta in deltas:
        assert b"".join(token.piece for token in delta.logprobs) == delta.text.encode()
    assert [token.logprob for token in tokens(deltas)] == [-float(place) for place in range(len(text.encode()))]


@given(TEXTS, st.lists(st.text(alphabet="ab好", min_size=1, max_size=3), max_size=3), st.integers(1, 5))
def test_tokens_that_a_stop_text_cut_are_not_told(text: str, stops: list[str], group: int) -> None:
    deltas = aligned(list(text.encode()), Stops(texts=tuple(stops)), group)
    assert pieces(deltas) == "".join(delta.text for delta in deltas).encode()


def test_tokens_of_a_stop_sequence_are_not_told() -> None:
    deltas = aligned(list(b"abXYcd"), Stops(token_ids=((ord("X"), ord("Y")),)))
    assert pieces(deltas) == b"ab"


def test_a_held_token_goes_with_the_delta_that_releases_it() -> None:
    deltas = aligned(list(b"aEXb"), Stops(texts=("END",)))
    assert [(delta.text, [token.piece for token in delta.logprobs]) for delta in deltas] == [
        ("a", [b"a"]),
        ("", []),
        ("EX", [b"E", b"X"]),
        ("b", [b"b"]),
        ("", []),
    ]


def test_a_token_that_is_cut_in_its_middle_is_not_told() -> None:
    class Words(ByteTokenizer):
        """One token is a word."""

        def piece(self, token_id: int) -> bytes:
            return b"one. two" if token_id == END else super().piece(token_id)

    assembler, aligner = Assembler(Words(), Stops(texts=(".",))), LogprobAligner(Words())
    ids = [ord("a"), END]
    delta = aligner.align(assembler.push(ids, None), ids, [-1.0, -2.0])
    assert (delta.text, delta.logprobs) == ("aone", (TokenLogprob(b"a", -1.0),))


def test_an_end_token_has_no_text_and_is_not_told() -> None:
    assert [token.piece for token in tokens(aligned([*b"ab", END]))] == [b"a", b"b"]


def test_bytes_that_are_no_character_do_not_stop_what_follows() -> None:
    deltas = aligned([ord("a"), 0xFF, ord("b")])
    assert "".join(delta.text for delta in deltas) == "ab"
    assert pieces(deltas) == b"a\xffb"
