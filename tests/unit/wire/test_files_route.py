"""/api/v1/files: whole forms in, the cloud's replies out, and nothing left of what went wrong."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from asgi_client import AUTHORIZED, LIMITS, Connection, Gateway, Reply, error_of, same_error, scope_of

from dashbelle.errors import InvalidApiKey, MalformedRequest, NoSuchFile, PayloadTooLarge
from dashbelle.store import Store
from dashbelle.uploads.shelf import FileLimits, Shelf

PATH = "/api/v1/files"
FIRST_ID = "00000000-0000-0000-0000-000000000001"
ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
RECORDED = ROOT.parent / "shared" / "data" / "recorded"
FORM_TYPE = {"content-type": "multipart/form-data; boundary=cut"}
FILE_LIMITS = FileLimits(file_bytes=16, request_bytes=2000, key_bytes=100, key_files=10)


class Desk(Gateway):
    """The app over one shelf whose ids count from 1 and whose clock stands at 18 o'clock."""

    def __init__(self, store: Store, folder: Path) -> None:
        numbers = iter(range(1, 1000))
        self.files = Shelf(
            store,
            folder,
            limits=FILE_LIMITS,
            now=lambda: datetime(2026, 1, 31, 18, tzinfo=UTC),
            new_id=lambda: uuid.UUID(int=next(numbers)),
        )
        super().__init__(shelf=self.files)

    async def upload(self, form: bytes, **headers: str) -> Reply:
        return await self.post(form, {**FORM_TYPE, **headers}, PATH)

    async def ask(self, method: str, path: str = PATH, query: str = "") -> Reply:
        return await self.request(method, path, AUTHORIZED, query)

    @property
    def on_disk(self) -> list[str]:
        return sorted(path.name for path in self.files.folder.iterdir())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
        desk = Desk(store, tmp_path / "files")
        await desk.files.sweep()
        yield desk


def part(content: str, name: str = "files", filename: str | None = None) -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    return f'--cut\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n{content}\r\n'.encode()


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--cut--\r\n"


TWO_FILES = form(
    part("第一", "descriptions"), part("测试2", filename="训练.jsonl"), part("x" * 17, filename="large.txt")
)


async def test_an_upload_lists_what_was_kept_and_what_was_not(desk: Desk) -> None:
    reply = await desk.upload(TWO_FILES)
    assert (reply.status, reply.body) == (200, (GOLDEN / "files-upload.json").read_bytes())
    assert desk.on_disk == [FIRST_ID]


async def test_files_are_listed_shown_and_deleted(desk: Desk) -> None:
    await desk.upload(TWO_FILES)
    assert (await desk.ask("GET")).body == (GOLDEN / "files-list.json").read_bytes()
    assert (await desk.ask("GET", f"{PATH}/{FIRST_ID}")).body == (GOLDEN / "files-one.json").read_bytes()
    assert (await desk.ask("DELETE", f"{PATH}/{FIRST_ID}")).body == (GOLDEN / "files-delete.json").read_bytes()
    for method in ("GET", "DELETE"):
        assert same_error(await desk.ask(method, f"{PATH}/{FIRST_ID}"), NoSuchFile())
    assert (await desk.ask("GET")).json["data"]["total"] == 0
    assert desk.on_disk == []


def recorded(name: str) -> dict[str, Any]:
    if not RECORDED.is_dir():
        pytest.skip("recorded replies of the cloud are not on this machine")
    value: dict[str, Any] = json.loads((RECORDED / f"{name}-nosse.response.body.txt").read_text("utf-8-sig"))
    return value


async def test_recorded_replies_have_the_same_form(desk: Desk) -> None:
    uploaded = await desk.upload(TWO_FILES)
    for name, reply in (
        ("upload-file", uploaded),
        ("list-files", await desk.ask("GET", query="page_no=1&page_size=2")),
        ("get-file", await desk.ask("GET", f"{PATH}/{FIRST_ID}")),
        ("delete-file", await desk.ask("DELETE", f"{PATH}/{FIRST_ID}")),
    ):
        assert form_of(reply.json) == form_of(recorded(name))


def form_of(value: object) -> object:
    """Keys in their order, kinds of values, and of a list its first entry."""
    if isinstance(value, dict):
        return [(name, form_of(entry)) for name, entry in value.items()]
    return [form_of(entry) for entry in value[:1]] if isinstance(value, list) else type(value)


async def test_a_recorded_digest_is_the_one_of_the_same_content(desk: Desk) -> None:
    await desk.upload(TWO_FILES)
    ours, theirs = (await desk.ask("GET")).json["data"]["files"][0], recorded("list-files")["data"]["files"][0]
    assert (ours["md5"], ours["size"]) == (theirs["md5"], theirs["size"])


async def test_descriptions_and_purpose_may_stand_anywhere(desk: Desk) -> None:
    one = [part("a", filename="a"), part("eins", "descriptions"), part("tune", "purpose")]
    two = [part("b", filename="b"), part("zwei", "descriptions"), part("drei", "descriptions")]
    others = [part("x", "other"), part("y", "files")]
    assert len((await desk.upload(form(*one, *two, *others))).json["data"]["uploaded_files"]) == 2
    listed = (await desk.ask("GET")).json["data"]["files"]
    assert [(file["name"], file["description"]) for file in listed] == [("a", "eins"), ("b", "zwei")]
    assert (await desk.ask("GET", f"{PATH}/{FIRST_ID}")).json["data"]["purpose"] == "tune"


async def test_the_pieces_of_a_body_may_be_cut_anywhere(desk: Desk) -> None:
    body = form(part("--cut \r\n-", filename="a"))
    connection = Connection([bytes((byte,)) for byte in body])
    await desk.run(connection, scope_of("POST", PATH, {**AUTHORIZED, **FORM_TYPE, "transfer-encoding": "chunked"}))
    assert connection.reply.status == 200
    assert (desk.files.folder / FIRST_ID).read_bytes() == b"--cut \r\n-"


async def test_an_upload_may_be_larger_than_other_bodies_but_has_a_bound(desk: Desk) -> None:
    assert desk.files.limits.request_bytes < LIMITS.max_body_bytes
    body = form(part("x" * 3000, filename="a"))
    assert same_error(await desk.upload(body), PayloadTooLarge())
    connection = Connection([body])
    await desk.run(connection, scope_of("POST", PATH, {**AUTHORIZED, **FORM_TYPE, "transfer-encoding": "chunked"}))
    assert same_error(connection.reply, PayloadTooLarge())
    assert desk.on_disk == []


async def test_an_upload_that_breaks_off_leaves_nothing(desk: Desk) -> None:
    body = form(part("kept?", filename="a"), part("b", filename="b"))
    connection = Connection([body[:-20]], whole=False)
    connection.hang_up.set()
    await desk.run(connection, scope_of("POST", PATH, {**AUTHORIZED, **FORM_TYPE, "content-length": str(len(body))}))
    assert same_error(connection.reply, MalformedRequest("The request body broke off."))
    assert desk.on_disk == []


async def test_a_stopped_server_leaves_nothing_of_a_running_upload(desk: Desk) -> None:
    connection = Connection([form(part("abc", filename="a"))[:-12]], whole=False)
    scope = scope_of("POST", PATH, {**AUTHORIZED, **FORM_TYPE, "transfer-encoding": "chunked"})
    task = asyncio.create_task(desk.run(connection, scope))
    while not desk.on_disk:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.on_disk == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (form(part("x", "descriptions")), 'Required parameter "files" missing from request.'),
        (form(part("x", "files")), 'Required parameter "files" missing from request.'),
        (b"--cut--\r\n", 'Required parameter "files" missing from request.'),
        (form(part("a", filename="a"))[:-9], "The form has no end: its last boundary is missing."),
        (form(part("x" * 5000, "descriptions")), None),
    ],
)
async def test_a_bad_form_is_refused_whole(desk: Desk, body: bytes, message: str | None) -> None:
    status, code, told = error_of(await desk.upload(body))
    assert message is None or (status, code, told) == (400, "InvalidParameter", message)
    assert status in {400, 413}
    assert desk.on_disk == []


async def test_another_content_type_is_refused(desk: Desk) -> None:
    reply = await desk.post(b"{}", {"content-type": "application/json"}, PATH)
    assert error_of(reply)[2] == "Content-Type must be multipart/form-data with a boundary."


async def test_no_byte_is_read_before_the_key_is_proved(desk: Desk) -> None:
    reply = await desk.upload(TWO_FILES, authorization="Bearer sk-wrong")
    assert same_error(reply, InvalidApiKey())
    assert reply.headers["connection"] == "close"
    assert desk.on_disk == []


async def test_a_name_from_a_client_stays_within_its_string(desk: Desk) -> None:
    reply = await desk.upload(form(part("a", filename='\\"}],\\"x\\":\\"')))
    assert reply.json["data"]["uploaded_files"][0]["name"].endswith('"')
    assert desk.on_disk == [FIRST_ID]
