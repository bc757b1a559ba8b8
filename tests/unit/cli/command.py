"""Runs a command of ours in this process, at home in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from typer import Typer
from typer.testing import CliRunner


class Ended(Protocol):
    """How a command ended."""

    exit_code: int

    @property
    def stdout(self) -> str: ...

    @property
    def stderr(self) -> str: ...


Run = Callable[..., Ended]


def runner_of(app: Typer) -> Callable[[Path], Run]:
    """For a home, a function that runs `app` with these arguments; a traceback is a failure of the test."""

    def at_home(home: Path) -> Run:
        environment = {"DASHBELLE_HOME": str(home), "COLUMNS": "80", "DASHBELLE_DATABASE_URL": ""}
        return lambda *arguments: CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False)

    return at_home
