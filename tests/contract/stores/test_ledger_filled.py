"""The filler of big ledgers writes what the ledger itself would have written."""

from __future__ import annotations

from pathlib import Path

from fill_ledger import KEYS, fill

from dashbelle.metering.ledger import By, Ledger
from dashbelle.metering.verify import PAGE, verify
from dashbelle.store import Store

CALLS = PAGE + 7
"""More lines than two pages of the proof."""


async def test_a_filled_ledger_is_sound_and_sums_up_to_its_receipts(tmp_path: Path) -> None:
    await fill(tmp_path / "dashbelle.db", CALLS)
    async with Store.open(f"sqlite:///{tmp_path}/dashbelle.db") as store:
        ledger = Ledger(store)
        told: list[tuple[int, int]] = []
        verdict = await verify(store, progress=lambda done, lines: told.append((done, lines)))
        assert (verdict.fault, verdict.lines) == (None, 2 * CALLS)
        assert told == [(PAGE, 2 * CALLS), (2 * PAGE, 2 * CALLS), (2 * CALLS, 2 * CALLS)]
        by_key = await ledger.sums(By.KEY)
        assert len(by_key) == KEYS
        receipts = [receipt async for receipt in ledger.receipts()]
        assert sum(one.calls for one in by_key) == len(receipts) == CALLS
        assert sum(one.output_tokens for one in by_key) == sum(receipt.output_tokens for receipt in receipts)
