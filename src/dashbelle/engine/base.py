"""The Engine protocol: an admitted prompt in, deltas out; every engine passes tests/contract/engines."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from dashbelle.vocabulary import AdmittedPrompt, Delta


class Tokenizer(Protocol):
    """Text <-> token ids of one model."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; special tokens written in it become their ids."""
        ...

    def piece(self, token_id: int) -> bytes:
        """The bytes that a token adds to an answer: empty for special and unknown ids."""
        ...

    def spelling(self, token_id: int) -> bytes:
        """The bytes that a token stands for in a prompt: as `piece`, but a special token is spelt by its name."""
        ...

    @property
    def longest_piece(self) -> int:
        """Bytes of the longest piece: no text has fewer tokens than its bytes divided by this."""
        ...


class Engine(Protocol):
    """Runs one model."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own."""
        ...

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together, at most."""
        ...

    @property
    def follows_schemas(self) -> bool:
        """Whether an answer can be held to a JSON schema; if not, no prompt with one arrives here."""
        ...

    @property
    def restarts(self) -> int:
        """How often what computes had to be started again."""
        ...

    def generate(self, prompt: AdmittedPrompt) -> AsyncGenerator[Delta, None]:
        """Yield the answer as it is made; the last delta, and only it, has `finish`.

        Closing the generator cancels the computation. Tokens that became ready while nobody asked come merged
        into one delta. Raises EngineFailed or one of its kind, or SchemaRefused.
        """
        ...

    def unready(self) -> str | None:
        """Why this engine cannot serve at the moment; None when it can."""
        ...

    async def close(self) -> None:
        """Stop computing and free what the engine holds."""
        ...
