"""SIGKILL at any moment, again and again, on one database: what was acknowledged is there, once, and all adds up.

KILLS=100 in the environment asks for more of them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from dying_load import NOON
from noticing import settle_dead
from sqlalchemy import text

from dashbelle.metering.budgets import Balance
from dashbelle.metering.ledger import By, Ledger
from dashbelle.metering.limits import Limits
from dashbelle.metering.verify import verify
from dashbelle.store import Store
from dashbelle.vocabulary import BudgetPeriod, EndReason, Limit, LimitKind, LimitScope

KILLS = int(os.environ.get("KILLS", "20"))
LONGEST_LIFE_S = 0.25
LOAD = Path(__file__).with_name("dying_load.py")

Acknowledged = dict[str, dict[str, int]]
"""By "reserved" and "settled": the ids, each with its output tokens."""


@pytest.mark.timeout(60 + 10 * KILLS)
def test_what_was_acknowledged_outlives_any_kill_once_and_adds_up(url: str) -> None:
    random = Random(20)  # noqa: S311 - a fixed seed, not a secret
    asyncio.run(set_budget(url))
    acknowledged: Acknowledged = {"reserved": {}, "settled": {}}
    for seed in range(KILLS):
        live_and_die(url, seed, random.uniform(0, LONGEST_LIFE_S), acknowledged)
        asyncio.run(check(url, acknowledged))
    assert len(acknowledged["settled"]) > 10 * KILLS, "there was hardly anything to lose"


async def set_budget(url: str) -> None:
    async with Store.open(url) as store:
        await Limits(store).set(Limit(LimitScope.KEY, "k", LimitKind.TOKENS, 10**12, BudgetPeriod.TOTAL))


def live_and_die(url: str, seed: int, life_s: float, acknowledged: Acknowledged) -> None:
    """One process, killed `life_s` seconds after it began to work."""
    with subprocess.Popen([sys.executable, LOAD, url, str(seed)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"ready {seed} 0\n".encode()
        time.sleep(life_s)
        child.kill()
        for line in child.stdout.read().decode().splitlines():
            what, request_id, tokens = line.split()
            acknowledged[what][request_id] = int(tokens)


async def check(url: str, acknowledged: Acknowledged) -> None:
    async with Store.open(url) as store:
        ledger = Ledger(store)
        await settle_dead(store, NOON)
        receipts = {receipt.request_id: receipt async for receipt in ledger.receipts()}
        for request_id, tokens in acknowledged["settled"].items():
            receipt = receipts[request_id]
            assert (receipt.output_tokens, receipt.end_reason) == (tokens, EndReason.STOP)
        assert receipts.keys() >= acknowledged["reserved"].keys()
        verdict = await verify(store)
        assert verdict.fault is None
        assert verdict.lines == 2 * len(receipts)
        (told,) = await ledger.sums(By.KEY)
        used = sum(receipt.input_tokens + receipt.output_tokens for receipt in receipts.values())
        assert (told.calls, told.input_tokens + told.output_tokens) == (len(receipts), used)
        ((_, (standing,)),) = await Limits(store, now=lambda: NOON).standings()
        assert standing.balance == Balance(spent=used, reserved=0)
        assert await store.read(lambda connection: connection.scalar(text("SELECT count(*) FROM holds"))) == 0
