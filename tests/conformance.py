"""A pytest plugin: `pytest --conformance` runs the tests that show an item of the checklist and writes the page anew.

It runs nothing else, takes no choice of tests, and leaves docs/conformance.md alone unless all of them came to an end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from checklist import ITEMS, RAW
from conformance_page import Result, page_of
from sdk_environment import OPENAI_VERSIONS, VERSIONS

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
_FOLDERS = {"sdk": ("dashscope", VERSIONS), "openai": ("openai", OPENAI_VERSIONS)}
NUMBERED_FOLDERS = ("checklist", "npm_openai", "sdk")
"""Where a number in the name of a test is an item; elsewhere it may be any number."""
_COMPATIBLE = 94
"""The one item that all tests with openai's package show."""
_NUMBERED = re.compile(r"test_(\d+)_")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one option."""
    parser.addoption("--conformance", action="store_true", help="write docs/conformance.md from the tests of its items")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a choice of tests: a page about some of them would pass for one about all."""
    if not config.option.conformance:
        return
    chosen = [name for name in ("keyword", "markexpr", "lf", "deselect", "collectonly") if config.getoption(name, None)]
    if chosen or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        raise pytest.UsageError("--conformance writes the whole page: give no paths and no choice of tests beside it")
    config.pluginmanager.register(Conformance(PAGE), "conformance-run")


class Conformance:
    """The outcomes of one run."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._shows: dict[str, tuple[tuple[int, ...], str]] = {}
        self._results: dict[str, Result] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests that show something."""
        others = [item for item in items if not numbers_of(item)]
        items[:] = [item for item in items if numbers_of(item)]
        config.hook.pytest_deselected(items=others)
        self._shows = {item.nodeid: (numbers_of(item), client_of(item)) for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test passes by its call, and fails or is skipped by any phase."""
        if report.nodeid in self._shows and (report.when == "call" or not report.passed):
            numbers, client = self._shows[report.nodeid]
            self._results[report.nodeid] = Result(numbers, client, report.nodeid, *outcome_of(report))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the page, if it is about all of them."""
        ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if ended and not session.shouldstop and not session.shouldfail and self._results.keys() == self._shows.keys():
            self._page.write_text(page_of(self._results.values()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which items nothing passed for."""
        passed = {number for result in self._results.values() if result.outcome == "pass" for number in result.numbers}
        terminalreporter.write_line(
            f"items without a test that passed: {sorted({item.number for item in ITEMS} - passed)}"
        )


def numbers_of(item: pytest.Item) -> tuple[int, ...]:
    """The items of the checklist that a test shows: by its name, its markers and its folder."""
    named = _NUMBERED.match(item.name) if item.path.parent.name in NUMBERED_FOLDERS else None
    marked = (number for marker in item.iter_markers("item") for number in marker.args)
    of_folder = [_COMPATIBLE] if item.path.parent.name == "openai" else []
    return tuple(sorted({*marked, *([int(named[1])] if named else []), *of_folder}))


def client_of(item: pytest.Item) -> str:
    """The client that a test shows them to: by its marker, or by its folder and its parameters."""
    marker = item.get_closest_marker("client")
    if marker is not None:
        return str(marker.args[0])
    package, versions = _FOLDERS.get(item.path.parent.name, ("", ()))
    found = [value for value in _parameters(item) if value in versions]
    return f"{package} {found[0]}" if found else RAW


def _parameters(item: pytest.Item) -> Iterator[object]:
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        yield from value if isinstance(value, tuple) else (value,)


def outcome_of(report: pytest.TestReport) -> tuple[str, str]:
    """One of pass, fail and skip, with the reason of the latter two. An expected failure is a failure."""
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
        return ("fail", str(expected)) if report.skipped else ("fail", "passes though it was expected to fail")
    if report.skipped:
        *_, reason = cast(tuple[str, int, str], report.longrepr)
        return "skip", reason.removeprefix("Skipped: ")
    return ("pass", "") if report.passed else ("fail", "")
