"""What a GGUF file says about its model: shape, vocabulary, template; read once and kept beside the caches."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

from dashbelle.models.gguf_metadata import BadGguf, read_metadata

GPT2_PATTERNS: dict[str, list[dict[str, Any]]] = {
    # tokenizer.ggml.pre -> what runs before byte-level BPE, in the form of a tokenizers JSON
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "default": [],
    "gpt-2": [],
}
CONTROL_TOKEN = 3
"""`tokenizer.ggml.token_type` of tokens that are never text (llama.cpp, llama_token_type)."""


class ModelCard(msgspec.Struct, frozen=True):
    """The facts of one model file that serving needs."""

    architecture: str
    name: str
    context_tokens: int
    eos_token_ids: list[int]
    chat_template: str | None
    tokenizer_json: str


class UnreadableModel(Exception):
    """A file that is no GGUF, or one of a kind that is not served; the text says which, in one line."""


def read_card(path: Path, cache: Path) -> ModelCard:
    """The card of the GGUF at `path`; kept in `cache`, because a tokenizer of 98,000 strings takes a while to write.

    Raises UnreadableModel.
    """
    stat = path.stat()
    identity = f"{path}:{stat.st_size}:{stat.st_mtime_ns}:1"
    kept = cache / f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.card.json"
    try:
        return msgspec.json.decode(kept.read_bytes(), type=ModelCard)
    except (OSError, msgspec.DecodeError):
        card = _read(path)
    cache.mkdir(parents=True, exist_ok=True)
    scratch = kept.with_suffix(".part")
    scratch.write_bytes(msgspec.json.encode(card))
    scratch.replace(kept)
    return card


def _read(path: Path) -> ModelCard:
    try:
        values = read_metadata(path)
    except (BadGguf, OSError) as error:
        raise UnreadableModel(f"{path.name} is no readable GGUF file: {error}") from None
    try:
        return _card(values, path)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableModel(f"{path.name} lacks or misstates a field: {error}") from None


def _card(values: dict[str, Any], path: Path) -> ModelCard:
    architecture = values.get("general.architecture")
    if architecture != "llama":
        raise UnreadableModel(f"{path.name} has the architecture {architecture!r}; served is: llama")
    if values.get("tokenizer.ggml.model") != "gpt2":
        raise UnreadableModel(f"{path.name} has a {values.get('tokenizer.ggml.model')!r} vocabulary; served is: gpt2")
    return ModelCard(
        architecture=architecture,
        name=str(values.get("general.name", path.stem)),
        context_tokens=int(values[f"{architecture}.context_length"]),
        eos_token_ids=[int(values["tokenizer.ggml.eos_token_id"])],
        chat_template=values.get("tokenizer.chat_template"),
        tokenizer_json=json.dumps(_tokenizer(values, path.name), ensure_ascii=False),
    )


def _tokenizer(values: dict[str, Any], file_name: str) -> dict[str, Any]:
    """The vocabulary as a tokenizers JSON of byte-level BPE."""
    pre = values.get("tokenizer.ggml.pre", "default")
    if pre not in GPT2_PATTERNS:
        raise UnreadableModel(f"{file_name} splits text by the rules of {pre!r}, which are not known here")
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": place,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for place, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == CONTROL_TOKEN
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*GPT2_PATTERNS[pre], byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: place for place, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in values["tokenizer.ggml.merges"]],
        },
    }
