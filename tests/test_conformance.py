"""The checklist is whole, each item has a test, the page is what the checklist says, and its plugin tells the truth."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from checklist import CLIENT_2, ITEMS, JAVA, JAVA_ONLY, RAW
from conformance import NUMBERED_FOLDERS, PAGE
from conformance_page import COLUMNS, NOT_ASKED, Notes, Result, cell, kinds_are_known, page_of

TESTS = Path(__file__).parent
ROOT = TESTS.parent
SOURCES = sorted({*TESTS.glob("contract/**/test_*.py"), *TESTS.glob("e2e/test_*.py"), *TESTS.glob("unit/**/test_*.py")})
OLDEST = "dashscope 1.10.0"


def result(outcome: str, *, number: int = 48, client: str = RAW, path: str = "contract/x", reason: str = "") -> Result:
    return Result((number,), client, f"tests/{path}/test_x.py::test_y", outcome, reason)


def rows(page: str) -> dict[int, list[str]]:
    """Each item's row, without its number."""
    found = re.findall(r"^\| (\d+) \| (.+) \|$", page, flags=re.MULTILINE)
    return {int(number): rest.split(" | ") for number, rest in found}


def test_the_checklist_has_94_items() -> None:
    assert [item.number for item in ITEMS] == list(range(1, 95))
    assert len({item.name for item in ITEMS}) == 94
    assert kinds_are_known()


def test_every_item_has_a_test() -> None:
    text = "\n".join(path.read_text() for path in SOURCES)
    numbered = "\n".join(path.read_text() for path in SOURCES if path.parent.name in NUMBERED_FOLDERS)
    named = re.findall(r"^(?:async )?def test_(\d+)_", numbered, flags=re.MULTILINE)
    marked = re.findall(r"pytest\.mark\.item\(([\d, ]+)\)", text)
    shown = {int(number) for numbers in [*named, *marked] for number in numbers.split(",")}
    tables = (TESTS / "contract" / "checklist" / "test_checklist_bodies.py").read_text()  # they hand theirs to a marker
    shown |= {int(number) for number in re.findall(r'^ +\*?\(*(\d+), "[a-z_]+", ', tables, flags=re.MULTILINE)}
    assert {item.number for item in ITEMS} - shown == JAVA_ONLY
    assert shown <= {item.number for item in ITEMS}


def test_the_page_has_the_checklists_rows_and_the_clients_columns() -> None:
    page = PAGE.read_text()
    assert {number: cells[0] for number, cells in rows(page).items()} == {item.number: item.name for item in ITEMS}
    heads = re.findall(r"^\|  \| item \| (.+) \|$", page, flags=re.MULTILINE)
    assert {tuple(head.split(" | ")) for head in heads} == {tuple(COLUMNS)}


def test_the_page_hides_nothing_without_a_note() -> None:
    page = PAGE.read_text()
    for cells in rows(page).values():
        for said in cells[1:]:
            assert re.fullmatch(r"(pass|n\.a\.)(<sup>\d+</sup>)?|(\*\*fail\*\*|not run)<sup>\d+</sup>", said)
    marks = {int(number) for number in re.findall(r"<sup>(\d+)</sup>", page)}
    notes = page.partition("\n## Notes\n")[2].partition("\n## ")[0]
    assert marks == {int(number) for number in re.findall(r"^(\d+)\. ", notes, flags=re.MULTILINE)}


def test_one_test_that_fails_makes_the_cell_fail() -> None:
    notes = Notes()
    results = [result("pass", client=OLDEST), result("fail", client=OLDEST)]
    assert cell(ITEMS[47], OLDEST, results, notes) == "**fail**<sup>1</sup>"
    assert notes.lines() == ["1. `test_x.py::test_y`"]


def test_a_known_failure_is_told_with_its_reason() -> None:
    notes = Notes()
    assert cell(ITEMS[47], OLDEST, [result("fail", client=OLDEST, reason="no room")], notes).startswith("**fail**")
    assert notes.lines() == ["1. no room"]


def test_a_test_that_was_skipped_is_no_pass() -> None:
    notes = Notes()
    assert cell(ITEMS[47], OLDEST, [result("skip", client=OLDEST, reason="no node")], notes) == "not run<sup>1</sup>"
    assert notes.lines() == ["1. no node"]


def test_an_item_without_a_test_is_not_run_for_its_clients_and_not_applicable_to_others() -> None:
    notes = Notes()
    said = [cell(ITEMS[47], client, [], notes) for client in (OLDEST, CLIENT_2, RAW)]
    assert said == ["not run<sup>1</sup>", "n.a.", "n.a."]
    assert notes.lines() == [f"1. {NOT_ASKED}"]


def test_nothing_passes_for_a_client_that_was_never_there() -> None:
    assert all(cell(item, JAVA, [], Notes()).startswith(("n.a.", "not run")) for item in ITEMS)


def test_tests_of_parts_alone_say_so() -> None:
    parts, whole = result("pass", path="unit/wire"), result("pass")
    assert cell(ITEMS[47], RAW, [parts], Notes()) == "pass<sup>1</sup>"
    assert cell(ITEMS[47], RAW, [parts, whole], Notes()) == "pass"


def test_a_client_without_a_column_stops_the_page() -> None:
    with pytest.raises(ValueError, match="no column for the client 'curl 8'"):
        page_of([result("pass", client="curl 8")])


@pytest.mark.parametrize("choice", [["tests/test_rules.py"], ["-k", "anything"], ["-m", "item"], ["--collect-only"]])
def test_a_choice_of_tests_cannot_write_the_page(choice: list[str]) -> None:
    before = PAGE.read_bytes()
    command = [sys.executable, "-m", "pytest", "--conformance", "-p", "no:cacheprovider", *choice]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert "give no paths and no choice of tests" in finished.stderr
    assert PAGE.read_bytes() == before


def test_the_lock_of_npm_names_no_host_and_hashes_everything() -> None:
    text = (TESTS / "contract" / "npm_openai" / "package-lock.json").read_text()
    assert "://" not in text
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert packages
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
