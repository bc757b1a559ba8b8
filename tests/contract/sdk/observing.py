"""Runs the cases of a script inside an SDK's environment and prints all that they saw as one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Case = TypeVar("Case", bound=Callable[[], object])
_cases: list[Callable[[], object]] = []


def case(function: Case) -> Case:
    """Marks a case."""
    _cases.append(function)
    return function


def report() -> None:
    """Run every case and print what each returned, by its name; what it raised is an observation too."""
    sys.stdout.write(json.dumps({function.__name__: observed(function) for function in _cases}))


def observed(work: Callable[[], object]) -> object:
    """The result, or the error that was raised."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whatever an SDK raises is what its users see
        return raised(error)


def raised(error: Exception) -> dict[str, Any]:
    """An error as its catcher sees it: its class and what that is derived from, its text, its fields."""
    known = {name: getattr(error, name, None) for name in ("code", "status_code", "message", "request_id")}
    return {"raised": [kind.__name__ for kind in type(error).__mro__], "text": str(error), **known}


def shown(response: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a 1.x response, which is a mapping, as plain values."""
    plain: dict[str, Any] = json.loads(json.dumps({**response, "headers": None}))
    return plain
