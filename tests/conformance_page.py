"""docs/conformance.md from the results of tests: a row for each item of the checklist, a column for each client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from checklist import CLIENT_2, ITEMS, JAVA, KINDS, RAW, Item
from sdk_environment import LANGCHAIN_VERSION, OPENAI_VERSIONS, VERSIONS

_TESTS = Path(__file__).parent
_NPM: dict[str, dict[str, str]] = json.loads((_TESTS / "contract" / "npm_openai" / "package.json").read_text())
_JAVA_SECTION = _TESTS / "conformance_java.md"

COLUMNS = {
    RAW: "R",
    **{f"dashscope {version}": "1" for version in VERSIONS},
    CLIENT_2: "2",
    **{f"openai {version}": "O" for version in OPENAI_VERSIONS},
    f"openai (npm) {_NPM['dependencies']['openai']}": "O",
    f"langchain-community {LANGCHAIN_VERSION}": "",
    JAVA: "J",
}
"""Each client with its kind."""

ABSENT = {
    (88, "dashscope 1.10.0"): "this release has no Tokenization",
}
"""What a release does not offer."""

NOT_ASKED = "no test asks this of this client"
BY_PARTS = "by tests of the parts, not through a socket"
WITHOUT_JAVA = "the Java SDK cannot be installed by the tests; see [The Java SDK](#the-java-sdk)"

_HEAD = """\
# What each client sees

Written by a run of the tests: `python -m pytest --conformance`. A row is an item of the checklist that this project is
held to, a column is a client as it is published, installed with its hash checked. Do not edit this page.

* **pass**: every test of this item with this client passed.
* **fail**: one failed, or is known to fail.
* **not run**: the item is about this client, and nothing shows it; the note says why.
* **n.a.**: the item is not about this client, or it offers no such thing.
"""


class Result(NamedTuple):
    """How one test ended. `outcome`: pass, fail or skip, the latter two with a reason."""

    numbers: tuple[int, ...]
    client: str
    nodeid: str
    outcome: str
    reason: str = ""


class Notes:
    """Footnotes, numbered as they are first needed."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """The mark that leads to a note."""
        if text not in self._texts:
            self._texts.append(text)
        return f"<sup>{self._texts.index(text) + 1}</sup>"

    def lines(self) -> list[str]:
        """All of them."""
        return [f"{number}. {text}" for number, text in enumerate(self._texts, start=1)]


def page_of(results: Iterable[Result]) -> str:
    """The whole page."""
    cells: dict[tuple[int, str], list[Result]] = {}
    for result in results:
        if result.client not in COLUMNS:
            raise ValueError(f"{result.nodeid}: no column for the client {result.client!r}")
        for number in result.numbers:
            cells.setdefault((number, result.client), []).append(result)
    notes = Notes()
    lines = [_HEAD]
    for section, items in groupby(ITEMS, key=lambda item: item.section):
        lines += [f"## {section}", "", *_table(list(items), cells, notes), ""]
    lines += ["## Notes", "", *notes.lines(), "", _JAVA_SECTION.read_text().rstrip(), ""]
    return "\n".join(lines)


def _table(items: list[Item], cells: dict[tuple[int, str], list[Result]], notes: Notes) -> list[str]:
    rows = [["", "item", *COLUMNS], ["---"] * (2 + len(COLUMNS))]
    for item in items:
        said = (cell(item, client, cells.get((item.number, client), []), notes) for client in COLUMNS)
        rows.append([str(item.number), item.name, *said])
    return [f"| {' | '.join(row)} |" for row in rows]


def cell(item: Item, client: str, results: list[Result], notes: Notes) -> str:
    """What one client saw of one item."""
    failed = {result.reason or f"`{_test_of(result)}`" for result in results if result.outcome == "fail"}
    passed = [result for result in results if result.outcome == "pass"]
    if failed:
        return f"**fail**{notes.mark('; '.join(sorted(failed)))}"
    if passed:
        by_parts = all(result.nodeid.startswith("tests/unit/") for result in passed)
        return f"pass{notes.mark(BY_PARTS)}" if by_parts else "pass"
    return _without_a_result(item, client, sorted({result.reason for result in results}), notes)


def _without_a_result(item: Item, client: str, reasons: list[str], notes: Notes) -> str:
    kind = COLUMNS[client]
    if reasons:
        return f"not run{notes.mark('; '.join(reasons))}"
    if not kind or kind not in item.kinds:
        return "n.a."
    if (item.number, client) in ABSENT:
        return f"n.a.{notes.mark(ABSENT[item.number, client])}"
    return f"not run{notes.mark(WITHOUT_JAVA if client == JAVA else NOT_ASKED)}"


def _test_of(result: Result) -> str:
    """Its file and name, without its parameters."""
    return result.nodeid.partition("[")[0].rpartition("/")[2]


def kinds_are_known() -> bool:
    """Whether every letter of the checklist is explained."""
    return {letter for item in ITEMS for letter in item.kinds} <= set(KINDS)
