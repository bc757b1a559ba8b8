"""How the events of one stream arrived, and which hop on the way gathers them; pure judgement, no network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FEW_EVENTS = 8
"""Fewer tell nothing."""
LUMP_EVENTS = 8
"""As many in one piece, on average, came gathered."""
FAST_EVENT_S = 0.001
"""Faster ones may meet in a socket by themselves."""
LATE_SHARE = 0.2
"""Where everything arrives within the last fifth of the time, the stream was held back until its end."""


class Pacing(StrEnum):
    """What arrivals look like."""

    SMOOTH = "smooth"
    LUMPS = "lumps"
    AT_ONCE = "at once"
    UNKNOWN = "unknown"
    """Too few events, or too fast ones, to tell."""


@dataclass(slots=True)
class Arrivals:
    """When events arrived, in seconds from the request, and how many in each piece that was read."""

    pieces: list[tuple[float, int]] = field(default_factory=list)
    _tail: bytes = b""

    def note(self, at_s: float, piece: bytes) -> None:
        """The next piece of the stream's bytes."""
        events = (self._tail + piece).count(b"\n\n")
        self._tail = piece[-1:] or self._tail
        if events:
            self.pieces.append((at_s, events))

    @property
    def events(self) -> int:
        """All of them."""
        return sum(events for _, events in self.pieces)

    @property
    def first_s(self) -> float:
        """When the first came; 0 if none did."""
        return self.pieces[0][0] if self.pieces else 0.0

    @property
    def last_s(self) -> float:
        """When the last came; 0 if none did."""
        return self.pieces[-1][0] if self.pieces else 0.0

    @property
    def pacing(self) -> Pacing:
        """The judgement."""
        if self.events < FEW_EVENTS:
            return Pacing.UNKNOWN
        together = self.events / len(self.pieces)
        spread_s = self.last_s - self.first_s
        if together > 2 and spread_s < LATE_SHARE * self.last_s:
            return Pacing.AT_ONCE
        if together < LUMP_EVENTS:
            return Pacing.SMOOTH
        return Pacing.LUMPS if spread_s / self.events > FAST_EVENT_S else Pacing.UNKNOWN


@dataclass(frozen=True, slots=True)
class Hop:
    """Something between client and server, and what to do there."""

    name: str
    advice: str


_MARKS = ("server", "via", "x-cache", "x-served-by", "x-varnish", "cf-ray")
"""Headers in which a hop names itself; Dashbelle sends none of them."""
_KNOWN = (
    (r"nginx|openresty|tengine", "'proxy_buffering off', no 'proxy_ignore_headers', gzip off for text/event-stream"),
    (r"caddy", "'flush_interval -1' in reverse_proxy, no 'encode' for text/event-stream"),
    (r"apache", "'flushpackets=on' on ProxyPass, no mod_deflate for text/event-stream"),
    (r"envoy", "no buffer or compressor filter on this route"),
    (r"haproxy", "no 'option http-buffer-response', no compression of text/event-stream"),
    (r"varnish", "'set beresp.do_stream = true' for text/event-stream"),
    (r"squid", "do not let it cache or filter this host"),
    (r"microsoft-iis", "'responseBufferLimit=0' in Application Request Routing"),
    (
        r"cloudflare|cf-ray|cloudfront|fastly|akamai",
        "let it neither cache nor transform text/event-stream of this host",
    ),
)
ANYWHERE = "switch off buffering and compression of text/event-stream there"


def hops(headers: Mapping[str, str]) -> list[Hop]:
    """What a response's headers (names in lower case) tell of the hops that it passed."""
    named = [f"{mark}: {headers[mark]}" for mark in _MARKS if headers.get(mark)]
    found: dict[str, str] = {}
    for line in named:
        for pattern, advice in _KNOWN:
            if match := re.search(pattern, line, re.IGNORECASE):
                found.setdefault(match[0].lower(), advice)
    return [Hop(*hop) for hop in found.items()] or [Hop(line, ANYWHERE) for line in named]


def traces(headers: Mapping[str, str]) -> list[str]:
    """Signs in an event stream's headers that a hop changed or held it."""
    return [sign for sign, shows in _signs(headers) if shows]


def _signs(headers: Mapping[str, str]) -> tuple[tuple[str, bool], ...]:
    encoding = headers.get("content-encoding", "identity")
    return (
        ("it has a Content-Length, so somebody had all of it before the first byte left", "content-length" in headers),
        (f"it is compressed ({encoding}), which gathers events", encoding != "identity"),
        ("it comes out of a cache", headers.get("x-cache", "").lower().startswith("hit") or "age" in headers),
        ("X-Accel-Buffering is gone, which nginx takes off", "x-accel-buffering" not in headers and not hops(headers)),
    )
