"""What a gateway and an engine process say to each other: typed messages, length-prefixed, on a private socket."""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

LENGTH = struct.Struct(">I")
"""Four bytes, big-endian, before each message."""
MAX_FRAME_BYTES = 64 * 1024 * 1024


class Load(msgspec.Struct, array_like=True, tag="load", frozen=True):
    """The first command: which weights, under which limits. Paths are the gateway's own, never a caller's."""

    model_path: str
    cache_folder: str
    kv_cache_mib: int
    slots: int
    batch_tokens: int
    threads: int
    vocabulary: list[bytes] = []
    """What each token id adds to an answer. Empty: the engine refuses every schema."""


class Add(msgspec.Struct, array_like=True, tag="add", frozen=True):
    """Begin one answer. `call` is the gateway's own number for it. `greedy` makes the next four irrelevant."""

    call: int
    token_ids: list[int]
    eos_token_ids: list[int]
    """Where the answer ends; empty: only at max_tokens."""
    max_tokens: int
    greedy: bool
    temperature: float
    top_p: float
    top_k: int
    seed: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float = 0.0
    logprobs: bool = False
    json_schema: str | None = None


class Cancel(msgspec.Struct, array_like=True, tag="cancel", frozen=True):
    """Stop one answer; an answer that is over already is not an error."""

    call: int


class Ping(msgspec.Struct, array_like=True, tag="ping", frozen=True):
    """Asks for a Pong from the computing thread: proof that an idle engine is alive."""


class Ready(msgspec.Struct, array_like=True, tag="ready", frozen=True):
    """Weights are loaded and a first answer was computed."""

    load_s: float
    warm_up_s: float
    longest_step_s: float


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """The new token ids of one answer, and why it is over, if it is."""

    call: int
    token_ids: list[int]
    finish: Literal["stop", "length", "failed", "refused"] | None
    """"refused": the engine cannot follow the schema."""
    logprobs: list[float] = []
    """One for each id, if the call asked for them."""


class Step(msgspec.Struct, array_like=True, tag="step", frozen=True):
    """One turn of the engine; sent also when no token came of it, as proof of progress."""

    pieces: list[Piece]
    seconds: float


class Pong(msgspec.Struct, array_like=True, tag="pong", frozen=True):
    """The answer to Ping."""


class Broken(msgspec.Struct, array_like=True, tag="broken", frozen=True):
    """The weights could not be loaded; `reason` is for the operator's log, never for a caller."""

    reason: str


Command = Load | Add | Cancel | Ping
Event = Ready | Step | Pong | Broken

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(message: Command | Event) -> bytes:
    """One message with its length before it."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def decode_command(body: bytes) -> Command:
    """Raises msgspec.DecodeError (also for a known form with wrong types)."""
    return _commands.decode(body)


def decode_event(body: bytes) -> Event:
    """Raises msgspec.DecodeError (also for a known form with wrong types)."""
    return _events.decode(body)
