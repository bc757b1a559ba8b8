"""Reads the key-value head of a GGUF file, never its tensors; every length is checked against the file before use.

Ours, because the package `gguf` takes 2 s for the 98,000 strings of a small vocabulary, which a first start cannot
afford (0.1 s here). The layout is that of ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_FIELDS = 4096
MAX_DEPTH = 2
"""Arrays of arrays are allowed by the format and used by nobody beyond this."""
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_COUNT = struct.Struct("<Q")
_KIND = struct.Struct("<I")


class BadGguf(ValueError):
    """The file is no GGUF, or a broken one; the text says how, in a few words."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Every field of the head by name: numbers, strings, lists of them. Raises BadGguf, OSError."""
    with path.open("rb") as file:
        if path.stat().st_size < len(MAGIC) + _KIND.size + 2 * _COUNT.size:
            raise BadGguf("it is too short")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Head(data).fields()


class _Head:
    """A place in the mapped file, moving forward."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._end = len(data)
        self._at = 0

    def fields(self) -> dict[str, Any]:
        if self._take(len(MAGIC)) != MAGIC:
            raise BadGguf("it does not begin with GGUF")
        version = self._number(_KIND)
        if version not in VERSIONS:
            raise BadGguf(f"its version is {version}, known are 2 and 3")
        self._number(_COUNT)  # of tensors
        count = self._number(_COUNT)
        if count > MAX_FIELDS:
            raise BadGguf(f"it claims {count} fields")
        fields: dict[str, Any] = {}
        for _ in range(count):
            name = self._string()
            fields[name] = self._value(self._number(_KIND), MAX_DEPTH)
        return fields

    def _value(self, kind: int, depth: int) -> Any:  # noqa: ANN401 - as many types as the format has
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(depth)
        return self._scalars(kind, 1)[0]

    def _array(self, depth: int) -> list[Any]:
        if depth == 0:
            raise BadGguf("its arrays are nested too deeply")
        kind, count = self._number(_KIND), self._number(_COUNT)
        if count > self._end - self._at:  # every element takes at least a byte
            raise BadGguf(f"it claims an array of {count} elements")
        if kind in _SCALARS:
            return list(self._scalars(kind, count))
        return [self._value(kind, depth - 1) for _ in range(count)]

    def _scalars(self, kind: int, count: int) -> tuple[Any, ...]:
        code = _SCALARS.get(kind)
        if code is None:
            raise BadGguf(f"it has a field of the unknown type {kind}")
        layout = f"<{count}{code[1]}"
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def _string(self) -> str:
        try:
            return str(self._take(self._number(_COUNT)), "utf-8")
        except UnicodeDecodeError:
            raise BadGguf("it has a string that is no UTF-8") from None

    def _number(self, layout: struct.Struct) -> int:
        number: int = layout.unpack(self._take(layout.size))[0]
        return number

    def _take(self, size: int) -> bytes:
        if size > self._end - self._at:
            raise BadGguf("it ends in the middle of a field")
        self._at += size
        return self._data[self._at - size : self._at]
