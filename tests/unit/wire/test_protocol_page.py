"""docs/protocol.md knows every error, every parameter and every golden frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dashbelle.errors import DashbelleError
from dashbelle.wire.parameters import RULES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "protocol.md").read_text("utf-8")


def errors(of: type[DashbelleError] = DashbelleError) -> Iterator[type[DashbelleError]]:
    for error in of.__subclasses__():
        yield error
        yield from errors(error)


def test_every_error_is_in_the_table() -> None:
    rows = [
        f"| {error.status} | `{error.code}` | {error.default_message} |" for error in errors() if hasattr(error, "code")
    ]
    assert rows
    assert [row for row in rows if row not in PAGE] == []


def test_every_parameter_is_in_the_table() -> None:
    assert [rule.name for rule in RULES if f"| `{rule.name}` |" not in PAGE] == []


def test_every_golden_frame_is_linked() -> None:
    frames = [path.name for path in (ROOT / "tests" / "golden").iterdir()]
    assert frames
    assert [name for name in frames if f"(../tests/golden/{name})" not in PAGE] == []
