"""Bytes of one HTTP answer, whole or as server-sent events -> when and how much; without socket or clock."""

from __future__ import annotations

import re

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EVENT_NUMBER = re.compile(rb"(?:^|\n)id:(\d+)\n")
_OUTPUT_TOKENS = re.compile(rb'"output_tokens":(\d+)')


class Reply:
    """One answer. Times are seconds on the caller's clock, 0.0 until the moment has come."""

    def __init__(self, sent_at: float = 0.0) -> None:
        self.status = 0
        self.body = b""
        """Of an answer that is no stream."""
        self.sent_at = sent_at
        self.ended_at = 0.0
        self.event_times: list[float] = []
        self.last_event = b""
        self._unparsed = bytearray()
        self._unfinished_event = b""
        self._length: int | None = None

    @property
    def first_event_s(self) -> float:
        """From the request to the first event."""
        return self.event_times[0] - self.sent_at

    @property
    def total_s(self) -> float:
        """From the request to the last byte."""
        return self.ended_at - self.sent_at

    @property
    def events_lost(self) -> int:
        """Events that were numbered by the server but did not come. The stream must have ended."""
        number = _EVENT_NUMBER.search(self.last_event)
        return (int(number[1]) if number else 0) - len(self.event_times)

    @property
    def output_tokens(self) -> int:
        """By the usage of the last event or of the body."""
        tokens = _OUTPUT_TOKENS.search(self.last_event or self.body)
        return int(tokens[1]) if tokens else 0

    def feed(self, data: bytes, now: float) -> bool:
        """Take what arrived at `now`; whether the answer is whole."""
        self._unparsed += data
        if self.status == 0 and not self._read_head():
            return False
        if self._read_body(now):
            self.ended_at = now
        return self.ended_at > 0.0

    def _read_head(self) -> bool:
        head, blank, rest = bytes(self._unparsed).partition(b"\r\n\r\n")
        if not blank:
            return False
        self.status = int(head.split(b" ", 2)[1])
        length = _CONTENT_LENGTH.search(head)
        self._length = int(length[1]) if length else None
        self._unparsed = bytearray(rest)
        return True

    def _read_body(self, now: float) -> bool:
        if self._length is not None:
            self.body = bytes(self._unparsed)
            return len(self.body) >= self._length
        while (chunk := self._take_chunk()) is not None:
            if not chunk:
                return True
            self._read_events(chunk, now)
        return False

    def _take_chunk(self) -> bytes | None:
        """The next chunk's data, empty at the end; None while it is not whole."""
        size_end = self._unparsed.find(b"\r\n")
        if size_end < 0:
            return None
        begin = size_end + 2
        end = begin + int(self._unparsed[:size_end], 16)
        if len(self._unparsed) < end + 2:
            return None
        data = bytes(self._unparsed[begin:end])
        del self._unparsed[: end + 2]
        return data

    def _read_events(self, data: bytes, now: float) -> None:
        *events, self._unfinished_event = (self._unfinished_event + data).split(b"\n\n")
        if events:
            self.event_times += [now] * len(events)
            self.last_event = events[-1]
