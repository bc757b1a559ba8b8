"""Forms: the same events however the bytes are cut, and no end without a last boundary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashbelle.errors import InvalidParameter
from dashbelle.wire.forms import MAX_HEAD_BYTES, MAX_PARTS, FormReader, Part, PartEnd

CONTENT_TYPE = "multipart/form-data; boundary=cut"
FORM = (
    b"--cut\r\n"
    b'Content-Disposition: form-data; name="files"; filename="\xe8\xae\xad.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
    b"one\r\n--cu\r\ntwo\r\n"
    b'--cut\r\ncontent-disposition: form-data; name="descriptions"\r\n\r\n'
    b"\r\n"
    b"--cut--\r\n"
)


def read(form: bytes, size: int = 1 << 20, content_type: str = CONTENT_TYPE) -> list[tuple[Part, bytes]]:
    """Each part with all of its data."""
    reader = FormReader(content_type)
    parts: list[tuple[Part, bytes]] = []
    for place in range(0, len(form), size):
        for event in reader.feed(form[place : place + size]):
            if isinstance(event, Part):
                parts.append((event, b""))
            elif not isinstance(event, PartEnd):
                parts[-1] = (parts[-1][0], parts[-1][1] + event)
    reader.finish()
    return parts


@given(st.integers(1, len(FORM)))
def test_the_parts_are_the_same_however_the_body_is_cut(size: int) -> None:
    assert read(FORM, size) == [(Part("files", "训.jsonl"), b"one\r\n--cu\r\ntwo"), (Part("descriptions", None), b"")]


@pytest.mark.parametrize("length", [0, 1, len(FORM) // 2, len(FORM) - 5])
def test_a_form_that_breaks_off_is_refused(length: int) -> None:
    with pytest.raises(InvalidParameter):
        read(FORM[:length])


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=cut",
     "multipart/form-data; boundary=" + "x" * 300],
)  # fmt: skip
def test_another_type_of_body_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidParameter):
        read(FORM, content_type=content_type)


@pytest.mark.parametrize(
    "form",
    [
        b"not a form at all",
        b"--other\r\n\r\n\r\n--other--",
        b"--cut\r\n\r\nno headers\r\n--cut--\r\n",
        b"--cut\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--cut--\r\n",
        b"--cut\r\nbad header\x00: x\r\n\r\n\r\n--cut--\r\n",
    ],
)
def test_what_is_no_form_is_refused(form: bytes) -> None:
    with pytest.raises(InvalidParameter):
        read(form)


def test_parts_and_their_headers_are_bounded() -> None:
    part = b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    assert len(read(part * MAX_PARTS + b"--cut--\r\n")) == MAX_PARTS
    with pytest.raises(InvalidParameter, match="at most 256 parts"):
        read(part * (MAX_PARTS + 1) + b"--cut--\r\n")
    with pytest.raises(InvalidParameter):
        FormReader(CONTENT_TYPE).feed(b"--cut\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1))
    with pytest.raises(InvalidParameter):
        FormReader(CONTENT_TYPE).feed(b"--cut\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES)
    with pytest.raises(InvalidParameter, match="at most 8192 bytes"):
        FormReader(CONTENT_TYPE).feed(b"--cut\r\n" + (b"X: " + b"x" * (MAX_HEAD_BYTES // 2) + b"\r\n") * 2)
