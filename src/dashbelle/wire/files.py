"""/api/v1/files: upload, list, show and delete; every key sees its own files alone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from dashbelle.errors import InvalidParameter
from dashbelle.uploads.arrival import Arrival, FailedFile, arriving
from dashbelle.uploads.shelf import Shelf, StoredFile
from dashbelle.vocabulary import Caller
from dashbelle.wire.exchange import Exchange
from dashbelle.wire.forms import Event, FormReader, Part, PartEnd
from dashbelle.wire.pages import page_of

MAX_FIELD_BYTES = 4096
DEFAULT_PURPOSE = "fine-tune"
"""What the Python SDK means by default; it has a parameter for it and does not send it."""


class Files:
    """The files on one shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def upload(self, exchange: Exchange, caller: Caller) -> None:
        """Keep the files of one form; those that cannot be kept are listed apart, with the reason.

        Raises InvalidParameter, PayloadTooLarge, RequestTooSlow, MalformedRequest; then nothing is kept.
        """
        reader = FormReader(exchange.headers.get("content-type", ""))
        async with (
            arriving(self._shelf, caller) as arrival,
            aclosing(exchange.body_pieces(self._shelf.limits.request_bytes)) as pieces,
        ):
            form = _Form(arrival)
            async for piece in pieces:
                for event in reader.feed(piece):
                    await form.take(event)
            reader.finish()
            answers = await form.keep()
        await exchange.answer(200, encode_upload(answers, exchange.request_id))

    async def list(self, exchange: Exchange, caller: Caller) -> None:
        """A page of them, newest first. Raises InvalidParameter."""
        page = page_of(exchange.query)
        total, found = await self._shelf.list(caller, page.start, page.size)
        data = {
            "total": total,
            "files": [_entry(file, caller) for file in found],
            "page_size": page.size,
            "page_no": page.number,
        }
        await _answer(exchange, data)

    async def show(self, exchange: Exchange, caller: Caller) -> None:
        """One of them. Raises NoSuchFile."""
        file = await self._shelf.get(caller, exchange.path_part("file"))
        await _answer(exchange, _entry(file, caller, purpose=file.purpose))

    async def delete(self, exchange: Exchange, caller: Caller) -> None:
        """Remove one. Raises NoSuchFile."""
        await self._shelf.delete(caller, exchange.path_part("file"))
        await exchange.answer(200, msgspec.json.encode({"request_id": exchange.request_id}))


class _Form:
    """One upload's form: `files` go to the shelf, `descriptions` and `purpose` are kept in mind."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self._part = Part("", None)
        self._field = bytearray()
        self._files = 0
        self._fields: dict[str, list[str]] = {"descriptions": [], "purpose": []}

    async def take(self, event: Event) -> None:
        """The next event."""
        if isinstance(event, Part):
            self._begin(event)
        elif isinstance(event, PartEnd):
            self._end()
        elif self._holds_file:
            await self._arrival.write(event)
        else:
            self._field += event
            if len(self._field) > MAX_FIELD_BYTES:
                raise InvalidParameter(f"A field of a form should have at most {MAX_FIELD_BYTES} bytes.")

    async def keep(self) -> list[StoredFile | FailedFile]:
        """The form is whole. Raises InvalidParameter if there was no file in it."""
        if not self._files:
            raise InvalidParameter('Required parameter "files" missing from request.')
        purpose = self._fields["purpose"][-1:] or [DEFAULT_PURPOSE]
        return await self._arrival.keep(self._fields["descriptions"], purpose[0])

    @property
    def _holds_file(self) -> bool:
        return self._part.name == "files" and self._part.filename is not None

    def _begin(self, part: Part) -> None:
        self._part = part
        self._field = bytearray()
        if self._holds_file:
            self._files += 1
            self._arrival.begin(part.filename or "")

    def _end(self) -> None:
        if self._part.name in self._fields and not self._holds_file:
            # No database but SQLite takes a NUL in a text.
            self._fields[self._part.name].append(self._field.decode("utf-8", "replace").replace("\0", ""))


def encode_upload(answers: Sequence[StoredFile | FailedFile], request_id: str) -> bytes:
    """The reply to an upload."""
    data = {
        "uploaded_files": [{"name": a.name, "file_id": a.file_id} for a in answers if isinstance(a, StoredFile)],
        "failed_uploads": [
            {"name": a.name, "code": a.reason.code, "message": a.reason.message}
            for a in answers
            if isinstance(a, FailedFile)
        ],
    }
    return msgspec.json.encode({"data": data, "request_id": request_id})


def _entry(file: StoredFile, caller: Caller, **more: str) -> dict[str, Any]:
    return {
        "id": file.id,
        "name": file.name,
        "description": file.description,
        **more,
        "size": file.size,
        "md5": base64.b64encode(file.md5).decode(),
        "region": "local",
        "file_id": file.file_id,
        "url": "",
        "user_id": caller.key_name,
        "api_key_id": str(caller.key_id),
        "gmt_create": f"{file.created_at:%Y-%m-%d %H:%M:%S}",
    }


async def _answer(exchange: Exchange, data: dict[str, Any]) -> None:
    await exchange.answer(200, msgspec.json.encode({"data": data, "request_id": exchange.request_id}))
