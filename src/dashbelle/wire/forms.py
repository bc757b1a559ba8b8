"""multipart/form-data, piece by piece: which part begins, what is in it, where it ends; keeps nothing of it."""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dashbelle.errors import InvalidParameter

MAX_PARTS = 256
MAX_HEAD_BYTES = 8192
"""Headers of one part, together."""


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a part. `filename` is None for a plain field."""

    name: str
    filename: str | None


class PartEnd:
    """The end of the part that was begun last."""


Event = Part | bytes | PartEnd


class FormReader:
    """Turns the pieces of one body into events. Both methods raise InvalidParameter for what is no form."""

    def __init__(self, content_type: str) -> None:
        media_type, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if media_type != b"multipart/form-data" or not boundary:
            raise InvalidParameter("Content-Type must be multipart/form-data with a boundary.")
        self._events: list[Event] = []
        self._parts = 0
        self._ended = False
        self._head_bytes = 0
        self._field = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._take_field,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(error) from None

    def feed(self, piece: bytes) -> list[Event]:
        """What `piece` brings."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(error) from None
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """The body has ended: so must the form have."""
        if not self._ended:
            raise InvalidParameter("The form has no end: its last boundary is missing.")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidParameter(f"A form should have at most {MAX_PARTS} parts.")
        self._head_bytes = 0
        self._headers = {}

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._count_head(end - start)
        self._value += data[start:end]

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise InvalidParameter(f"The headers of a form's part should have at most {MAX_HEAD_BYTES} bytes.")

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _end_headers(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise InvalidParameter("Each part of a form needs a Content-Disposition with a name.")
        filename = options.get(b"filename")
        self._events.append(Part(_text(options[b"name"]), None if filename is None else _text(filename)))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _end_part(self) -> None:
        self._events.append(PartEnd())

    def _end(self) -> None:
        self._ended = True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _malformed(error: FormParserError) -> InvalidParameter:
    return InvalidParameter(f"The body is no well-formed form: {error}")
