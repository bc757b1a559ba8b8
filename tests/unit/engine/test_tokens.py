"""The assembler: whole characters only, stop rules that never leak, honest counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.engine.echo import ByteTokenizer
from dashbelle.engine.tokens import Assembler, BpeTokenizer
from dashbelle.vocabulary import Delta, FinishReason, Stops

TEXTS = st.text(alphabet="ab好😀", max_size=30)
STOP_TEXTS = st.lists(st.text(alphabet="ab好", min_size=1, max_size=3), max_size=3).map(tuple)


def assemble(ids: list[int], stops: Stops, finish: FinishReason = "stop", group: int = 1) -> list[Delta]:
    """Push `ids` in groups, as an engine would, until a delta has `finish`."""
    assembler = Assembler(ByteTokenizer(), stops)
    deltas = []
    for start in range(0, len(ids), group):
        deltas.append(assembler.push(ids[start : start + group], None))
        if deltas[-1].finish:
            return deltas
    return [*deltas, assembler.push([], finish)]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@given(TEXTS, st.integers(1, 5))
def test_text_without_stops_comes_back_whole_however_it_is_cut(text: str, group: int) -> None:
    deltas = assemble(list(text.encode()), Stops(), group=group)
    assert text_of(deltas) == text
    assert sum(delta.token_count for delta in deltas) == len(text.encode())


@given(TEXTS, st.integers(1, 5))
@pytest.mark.item(69)
def test_no_delta_ends_in_half_a_character(text: str, group: int) -> None:
    assert all("\ufffd" not in delta.text for delta in assemble(list(text.encode()), Stops(), group=group))


@given(TEXTS, STOP_TEXTS, st.integers(1, 7))
def test_text_ends_before_the_stop_text_that_is_complete_first(text: str, stops: tuple[str, ...], group: int) -> None:
    expected, stopped = text, False
    for end in range(len(text) + 1):
        ends = [stop for stop in stops if text[:end].endswith(stop)]
        if ends:
            expected, stopped = text[: end - max(map(len, ends))], True
            break
    deltas = assemble(list(text.encode()), Stops(texts=stops), group=group)
    assert text_of(deltas) == expected
    assert deltas[-1].finish == "stop"
    assert sum(delta.token_count for delta in deltas) <= len(text.encode())
    assert stopped or sum(delta.token_count for delta in deltas) == len(text.encode())


@pytest.mark.item(43)
def test_no_part_of_a_stop_text_leaks_before_it_is_complete() -> None:
    deltas = assemble(list(b"one ENX two END three"), Stops(texts=("END",)))
    so_far = ""
    for delta in deltas:
        so_far += delta.text
        assert "one ENX two ".startswith(so_far)
    assert so_far == "one ENX two "


def test_a_begun_stop_text_is_released_at_the_end() -> None:
    assert text_of(assemble(list(b"to be EN"), Stops(texts=("END",)), finish="length")) == "to be EN"


def test_a_stop_sequence_of_ids_is_cut_and_counted() -> None:
    deltas = assemble(list(b"abXYcd"), Stops(token_ids=((ord("X"), ord("Y")),)))
    assert text_of(deltas) == "ab"
    assert sum(delta.token_count for delta in deltas) == 4
    assert deltas[-1].finish == "stop"


def test_a_begun_stop_sequence_of_ids_is_released_when_it_goes_on_otherwise() -> None:
    stops = Stops(token_ids=((ord("X"), ord("X"), ord("Y")),))
    assert text_of(assemble(list(b"aXXXYb"), stops)) == "aX"
    assert text_of(assemble(list(b"aXXZb"), stops)) == "aXXZb"
    assert text_of(assemble(list(b"aXX"), stops, finish="length")) == "aXX"


def test_text_before_a_stop_sequence_of_ids_still_obeys_stop_texts() -> None:
    stops = Stops(texts=("b",), token_ids=((ord("X"),),))
    assert text_of(assemble(list(b"abX"), stops)) == "a"


def test_bytes_that_are_no_character_are_dropped() -> None:
    assert text_of(assemble([ord("a"), 0xFF, 0xE4, 0xBD, ord("b")], Stops())) == "ab"


def test_ids_behind_the_end_are_not_counted() -> None:
    assembler = Assembler(ByteTokenizer(), Stops(texts=(".",)))
    delta = assembler.push(list(b"a.bcd"), None)
    assert (delta.text, delta.token_count, delta.finish) == ("a", 2, "stop")


def bpe_json(**added: int) -> str:
    vocabulary = {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "å": 4, "¥": 5, "½": 6}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": token_id,
                    "content": content,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for content, token_id in added.items()
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {**vocabulary, **added},
                "merges": [["a", "b"]],
            },
        }
    )


def test_bpe_pieces_are_the_bytes_of_the_text() -> None:
    tokenizer = BpeTokenizer(bpe_json())
    ids = tokenizer.encode("ab b好")
    assert ids == [3, 2, 1, 4, 5, 6]
    assert b"".join(map(tokenizer.piece, ids)).decode() == "ab b好"
    assert tokenizer.longest_piece == 2


def test_special_and_unknown_ids_add_nothing_to_an_answer() -> None:
    tokenizer = BpeTokenizer(bpe_json(END=7))
    assert tokenizer.encode("aEND") == [0, 7]
    assert [tokenizer.piece(token_id) for token_id in (7, 8, -1, 10**9)] == [b"", b"", b"", b""]


def test_joined_spellings_are_the_text_special_tokens_included() -> None:
    tokenizer = BpeTokenizer(bpe_json(END=7))
    ids = tokenizer.encode("ab好ENDbEND")
    assert b"".join(map(tokenizer.spelling, ids)).decode() == "ab好ENDbEND"
    assert [tokenizer.spelling(token_id) for token_id in (7, 8, -1)] == [b"END", b"", b""]


def test_a_file_that_is_no_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="not a tokenizer"):
        BpeTokenizer("{}")
