"""docs/billing.md knows every end reason, and the chain's fields in their order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashbelle.errors import BudgetUsedUp, FreeTierUsedUp, MoneyUsedUp
from dashbelle.metering.chain import FIELDS, Line
from dashbelle.vocabulary import EndReason

PAGE = (Path(__file__).parents[3] / "docs" / "billing.md").read_text("utf-8")


@pytest.mark.parametrize("reason", EndReason)
def test_every_end_reason_has_a_rule(reason: EndReason) -> None:
    assert re.search(rf"^\| `{reason}` \| ", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("line", Line)
def test_what_is_hashed_is_told_in_order(line: Line) -> None:
    told = re.search(rf"^    {line}: +(.+)$", PAGE, flags=re.MULTILINE)
    assert told is not None
    assert tuple(told[1].split(", ")) == FIELDS[line]


@pytest.mark.parametrize("kind", [BudgetUsedUp, FreeTierUsedUp, MoneyUsedUp])
def test_every_refusal_of_a_budget_is_told(kind: type[BudgetUsedUp]) -> None:
    assert f"| {kind.status} `{kind.code}` |" in PAGE
