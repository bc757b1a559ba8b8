"""Text <-> token ids from the model's own vocabulary, and text that grows without ever ending in half a character."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import TypeVar

import tokenizers

from dashbelle.engine.base import Tokenizer
from dashbelle.vocabulary import Delta, FinishReason, Stops

_Line = TypeVar("_Line", str, tuple[int, ...])


def _byte_level_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level BPE (GPT-2) writes for the 256 bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return alphabet


class BpeTokenizer:
    """A byte-level BPE vocabulary (SmolLM2, Qwen, Llama 3 and their kin) read from its tokenizers JSON.

    Raises ValueError when the JSON is no tokenizer.
    """

    def __init__(self, tokenizer_json: str) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a bad file
            raise ValueError(f"not a tokenizer: {error}") from None
        alphabet = _byte_level_alphabet()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {token_id: token.content.encode() for token_id, token in added.items() if token.special}
        self._pieces: list[bytes] = [b""] * self._tokenizer.get_vocab_size(with_added_tokens=True)
        for token, token_id in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if token_id not in self._special:
                self._pieces[token_id] = _piece(token, alphabet)
        self.longest_piece = max(map(len, self._pieces), default=1)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; special tokens written in it become their ids."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def piece(self, token_id: int) -> bytes:
        """The bytes that a token adds to an answer: empty for special and unknown ids."""
        return self._pieces[token_id] if 0 <= token_id < len(self._pieces) else b""

    @property
    def pieces(self) -> list[bytes]:
        """The piece of every id, in order."""
        return self._pieces

    def spelling(self, token_id: int) -> bytes:
        """The bytes that a token stands for in a prompt: as `piece`, but a special token is spelt by its name."""
        return self._special.get(token_id) or self.piece(token_id)


def _piece(token: str, alphabet: dict[str, int]) -> bytes:
    """Bytes of one byte-level token. An added token outside the alphabet is plain text."""
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:
        return token.encode()


class Assembler:
    """Builds one answer's text from token ids and applies its stop rules.

    Text that may yet turn out to be the beginning of a stop text, tokens that may begin a stop sequence and bytes of
    an unfinished character are held back. Bytes that can never become a character are dropped, not replaced.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Stops) -> None:
        self._piece = tokenizer.piece
        self._stops = stops
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._held_ids: tuple[int, ...] = ()
        self._held_text = ""
        self.stopped = False

    def push(self, token_ids: Iterable[int], finish: FinishReason | None) -> Delta:
        """Take the next ids, in order; with `finish` the answer is over and all that was held is released.

        The delta counts every id up to the one that completed a stop rule; ids behind it are not looked at.
        """
        text, count = "", 0
        for token_id in token_ids:
            count += 1
            text += self._grow(self._release_ids(token_id))
            if self.stopped:
                return Delta(text, count, "stop")
        if finish is not None:
            text += self._grow(self._held_ids)
            if self.stopped:
                return Delta(text, count, "stop")
            text += self._held_text + self._decoder.decode(b"", final=True)
        return Delta(text, count, finish)

    def _release_ids(self, token_id: int) -> tuple[int, ...]:
        """Ids that can no longer be part of a stop sequence, oldest first."""
        if not self._stops.token_ids:
            return (token_id,)
        held = (*self._held_ids, token_id)
        for stop in self._stops.token_ids:
            if held[-len(stop) :] == stop:
                self.stopped = True
                return held[: -len(stop)]
        keep = max(_overlap(held, stop) for stop in self._stops.token_ids)
        self._held_ids = held[len(held) - keep :]
        return held[: len(held) - keep]

    def _grow(self, token_ids: tuple[int, ...]) -> str:
        """Decode ids and return the text that no stop text can take back."""
        text = self._held_text + "".join(self._decoder.decode(self._piece(token_id)) for token_id in token_ids)
        found = [place for stop in self._stops.texts if (place := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stops.texts), default=0)
        if self.stopped:  # by ids: nothing follows that could complete a stop text
            keep = 0
        self._held_text = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(tail: _Line, stop: _Line) -> int:
    """Length of the longest end of `tail` that is a beginning of `stop`, shorter than `stop` itself."""
    for length in range(min(len(tail), len(stop) - 1), 0, -1):
        if tail[len(tail) - length :] == stop[:length]:
            return length
    return 0
