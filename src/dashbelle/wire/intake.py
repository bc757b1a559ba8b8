"""How much, and for how long, one connection may send: pure counting for the front, without socket or clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from dashbelle.errors import HeadersTooLarge, PayloadTooLarge

_FIELD_FRAMING_BYTES = len(": \r\n")
_CHUNK_FRAMING_BYTES = 16
"""What one chunk may cost beside its data; more is an extension and counts as overhead."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take; times in seconds, sizes in bytes."""

    head_s: float = 8.0
    body_stall_s: float = 8.0
    body_total_s: float = 60.0
    write_stall_s: float = 30.0
    linger_s: float = 1.0
    """How long unread input is still taken after our side was closed, so that a reset does not destroy the answer."""
    sweep_s: float = 1.0
    head_bytes: int = 64 * 1024
    """Also the bound of a body's chunk extensions and trailers together."""
    header_fields: int = 256
    url_bytes: int = 16 * 1024
    max_body_bytes: int | None = None
    """None: the app alone bounds bodies."""
    pipelined: int = 64
    ahead_bytes: int = 1024 * 1024
    """Input taken behind a running response, so as to see a hang-up at once; more waits in the kernel."""
    connections: int = 2000


class Phase(Enum):
    """What the parser waits for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class Intake:
    """The input of one connection, counted message by message. Times are seconds on the caller's clock.

    The counting methods raise HeadersTooLarge or PayloadTooLarge once a bound is passed.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.phase = Phase.IDLE
        self.head_bytes = 0
        self._limits = limits
        self._fields = 0
        self._body_bytes = 0
        self._overhead_bytes = 0
        self._heard_at = self._body_since = now
        self._head_since: float | None = None

    def hear(self, size: int, now: float) -> None:
        """`size` bytes arrived. A head's clock starts here: the parser skips blank lines without a callback."""
        self._heard_at = now
        self._overhead_bytes += size
        if self._head_since is None and self.phase is not Phase.BODY:
            self._head_since = now

    def begin(self) -> None:
        """The first byte of a message was parsed."""
        self.phase = Phase.HEAD
        self.head_bytes = self._fields = self._body_bytes = 0
        if self._head_since is None:
            self._head_since = self._heard_at

    def count_url(self, size: int) -> None:
        """One more piece of the request's target."""
        self.head_bytes += size
        if self.head_bytes > self._limits.url_bytes:
            raise HeadersTooLarge

    def count_field(self, name: bytes, value: bytes) -> None:
        """One more header field or trailer."""
        self._fields += 1
        self.head_bytes += len(name) + len(value) + _FIELD_FRAMING_BYTES
        if self._fields > self._limits.header_fields or self.head_bytes > self._limits.head_bytes:
            raise HeadersTooLarge

    def end_head(self, body_bytes: int | None) -> None:
        """The head is whole; `body_bytes` is what it declares, None if chunked."""
        self._check_body(body_bytes or 0)

    def begin_body(self) -> None:
        """The request was handed on; what follows is its body, maybe empty."""
        self.phase = Phase.BODY
        self._head_since, self._body_since = None, self._heard_at

    def count_chunk(self) -> None:
        """One more chunk: its plain framing is no overhead. Never below zero: chunks must not pay for a trailer."""
        self._overhead_bytes = max(0, self._overhead_bytes - _CHUNK_FRAMING_BYTES)

    def count_body(self, size: int) -> None:
        """One more piece of the body."""
        self._overhead_bytes = max(0, self._overhead_bytes - size)
        self._body_bytes += size
        self._check_body(self._body_bytes)

    def end(self) -> None:
        """The message is whole."""
        self.phase = Phase.IDLE
        self._overhead_bytes = 0

    def check_overhead(self) -> None:
        """Bound what no callback shows: half a field, chunk extensions, trailers, blank lines."""
        if self._overhead_bytes > self._limits.head_bytes:
            raise HeadersTooLarge

    def is_late(self, now: float) -> bool:
        """Whether the head or body under way is over its deadline."""
        if self.phase is not Phase.BODY:
            return self._head_since is not None and now - self._head_since > self._limits.head_s
        return self.silence(now) > self._limits.body_stall_s or now - self._body_since > self._limits.body_total_s

    def is_unused(self, now: float, idle_s: float) -> bool:
        """Whether nothing at all has arrived for `idle_s`."""
        return self._head_since is None and self.phase is Phase.IDLE and now - self._heard_at > idle_s

    def stand_still(self, now: float) -> None:
        """Reading is paused: the client waits for us, and its clocks start again."""
        self._heard_at = self._body_since = now
        if self._head_since is not None:
            self._head_since = now

    def silence(self, now: float) -> float:
        """Seconds since the last byte."""
        return now - self._heard_at

    def _check_body(self, size: int) -> None:
        if self._limits.max_body_bytes is not None and size > self._limits.max_body_bytes:
            raise PayloadTooLarge
