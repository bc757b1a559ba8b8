"""`dashbelle limits`: what keys and models may use, per minute, at once, and as budgets; enforces nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dashbelle.cli.opened import FAILED, MISUSED, fail, opened_store, run
from dashbelle.metering.budgets import BILLIONTHS, money
from dashbelle.metering.limits import BUDGETS, BadLimit, Limits, Standing
from dashbelle.vocabulary import HUNDREDTHS, BudgetPeriod, Limit, LimitKind, LimitScope

app = typer.Typer(no_args_is_help=True, help="Set, list and lift limits and budgets of keys and models.")

Key = Annotated[str | None, typer.Option("--key", metavar="NAME", help="Of this key.")]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Of this model, all keys together.")]
EachKey = Annotated[bool, typer.Option("--each-key", help="Of every key that has none of its own.")]
EachModel = Annotated[bool, typer.Option("--each-model", help="Of every model that has none of its own.")]
Per = Annotated[str | None, typer.Option("--per", metavar="day|month|total", help="When a budget is full again. UTC.")]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose limits are meant."""

    scope: LimitScope
    name: str | None

    @classmethod
    def of(cls, key: str | None, model: str | None, *, each_key: bool, each_model: bool) -> Subject:
        """From the options; ends the command unless exactly one is given."""
        given = [key is not None, model is not None, each_key, each_model]
        if given.count(True) != 1 or "" in {key, model}:
            fail("name one of --key NAME, --model NAME, --each-key and --each-model", MISUSED)
        scope = LimitScope.KEY if key is not None or each_key else LimitScope.MODEL
        return cls(scope, key if key is not None else model)


@app.command("set")
def set_limits(
    *,
    key: Key = None,
    model: Model = None,
    each_key: EachKey = False,
    each_model: EachModel = False,
    rpm: Annotated[int | None, typer.Option(min=0, help="Calls per minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=0, help="Tokens per minute.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=0, help="Calls at the same time.")] = None,
    share: Annotated[str | None, typer.Option(help="Weight of a key in the waiting line; 1 is normal.")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="A budget of tokens; needs --per.")] = None,
    amount: Annotated[str | None, typer.Option("--money", help="A budget of money, e.g. 5.00; needs --per.")] = None,
    per: Per = None,
) -> None:
    """Set limits; each replaces one of the same kind and period. A running server follows within a second.

    What a budget's period has used up counts from when it is first set. Money needs prices: dashbelle prices set.

    Examples:

        dashbelle limits set --key ci --rpm 60 --concurrent 4

        dashbelle limits set --key ci --tokens 1000000 --per month

        dashbelle limits set --each-key --money 5.00 --per day
    """
    subject = Subject.of(key, model, each_key=each_key, each_model=each_model)
    period = _period(per)
    amounts: dict[LimitKind, int | None] = {
        LimitKind.REQUESTS_PER_MINUTE: rpm,
        LimitKind.TOKENS_PER_MINUTE: tpm,
        LimitKind.CONCURRENT_CALLS: concurrent,
        LimitKind.SHARE: None if share is None else exact("--share", share, HUNDREDTHS),
        LimitKind.TOKENS: tokens,
        LimitKind.MONEY: None if amount is None else exact("--money", amount, BILLIONTHS),
    }
    given = {kind: value for kind, value in amounts.items() if value is not None}
    if not given:
        fail("name at least one of --rpm, --tpm, --concurrent, --share, --tokens and --money", MISUSED)
    if (period is None) != BUDGETS.isdisjoint(given):
        fail("--tokens and --money need --per, and --per needs one of them", MISUSED)
    wanted = [
        Limit(subject.scope, subject.name, kind, value, period if kind in BUDGETS else None)
        for kind, value in given.items()
    ]
    run(_set(wanted))


async def _set(wanted: Sequence[Limit]) -> None:
    async with opened_store() as store:
        limits = Limits(store)
        for limit in wanted:
            try:
                await limits.set(limit)
            except BadLimit as error:
                fail(str(error), MISUSED)
        known = [limit for limit in await limits.in_force() if limit.name == wanted[0].name]
        unpriced = any(limit.kind is LimitKind.MONEY for limit in wanted) and not await limits.prices()
    if wanted[0].scope is LimitScope.KEY and wanted[0].name and all(limit.key_id is None for limit in known):
        typer.echo(f"There is no live key named '{wanted[0].name}' yet.", err=True)
    if unpriced:
        typer.echo("No model has a price, so everything is free: dashbelle prices set", err=True)


@app.command("list")
def list_limits(*, as_json: Annotated[bool, typer.Option("--json", help="One JSON object per limit.")] = False) -> None:
    """List every limit, and who used how much of which budget.

    Examples:

        dashbelle limits list

        dashbelle limits list --json
    """
    run(_list(as_json=as_json))


async def _list(*, as_json: bool) -> None:
    async with opened_store() as store:
        standings = await Limits(store).standings()
    if as_json:
        sys.stdout.writelines(_json_line(limit, used) for limit, used in standings)
    elif standings:
        Console().print(_table(standings))
    else:
        typer.echo("No limits. Set one: dashbelle limits set --key NAME --rpm 60")


@app.command()
def remove(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help=f"One of {', '.join(LimitKind)}; all.")] = None,
    *,
    key: Key = None,
    model: Model = None,
    each_key: EachKey = False,
    each_model: EachModel = False,
    per: Per = None,
) -> None:
    """Lift the limits of a key or model. What was used up of a budget is forgotten with it.

    Examples:

        dashbelle limits remove --key ci

        dashbelle limits remove tokens --key ci --per day
    """
    subject = Subject.of(key, model, each_key=each_key, each_model=each_model)
    if kind is not None and kind not in set(LimitKind):
        fail(f"{kind!r}: use one of {', '.join(LimitKind)}", MISUSED)
    removed = run(_remove(subject, None if kind is None else LimitKind(kind), _period(per)))
    if removed == 0:
        fail("there is no such limit", FAILED)
    typer.echo(f"Limits lifted: {removed}.", err=True)


async def _remove(subject: Subject, kind: LimitKind | None, period: BudgetPeriod | None) -> int:
    async with opened_store() as store:
        return await Limits(store).remove(subject.scope, subject.name, kind, period)


def exact(option: str, text: str, parts: int) -> int:
    """A decimal number as a whole number of parts; ends the command if it is none."""
    try:
        scaled = Decimal(text) * parts
    except InvalidOperation:
        scaled = Decimal("NaN")
    if scaled.is_finite() and scaled >= 0 and scaled == scaled.to_integral_value():
        return int(scaled)
    return fail(f"{option} {text!r}: use a number such as 2.5, with at most {len(str(parts)) - 1} decimals", MISUSED)


def _period(per: str | None) -> BudgetPeriod | None:
    try:
        return None if per is None else BudgetPeriod(per)
    except ValueError:
        fail(f"--per {per!r}: use {', '.join(BudgetPeriod)}", MISUSED)


def _amount(kind: LimitKind, amount: int) -> str:
    if kind is LimitKind.MONEY:
        return money(amount)
    return f"{Decimal(amount) / HUNDREDTHS}" if kind is LimitKind.SHARE else str(amount)


def _json_line(limit: Limit, used: Sequence[Standing]) -> str:
    values = {
        "scope": limit.scope,
        "name": limit.name,
        "kind": limit.kind,
        "period": limit.period,
        "amount": _amount(limit.kind, limit.amount),
        "used": [
            {
                "name": standing.name,
                "spent": _amount(limit.kind, standing.balance.spent),
                "reserved": _amount(limit.kind, standing.balance.reserved),
            }
            for standing in used
        ],
    }
    return json.dumps(values) + "\n"


def _table(standings: Sequence[tuple[Limit, list[Standing]]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Of", overflow="fold")
    table.add_column("Limit", no_wrap=True)
    table.add_column("Used", justify="right", overflow="fold")
    for limit, used in standings:
        of = f"each {limit.scope}" if limit.name is None else f"{limit.scope} {limit.name}"
        per = f" per {limit.period}" if limit.period in {BudgetPeriod.DAY, BudgetPeriod.MONTH} else ""
        total = " in total" if limit.period is BudgetPeriod.TOTAL else ""
        rows = [
            f"{_amount(limit.kind, one.balance.spent + one.balance.reserved)}{'' if limit.name else ' by ' + one.name}"
            for one in used
        ]
        table.add_row(Text(of), f"{_amount(limit.kind, limit.amount)} {limit.kind}{per}{total}", Text("\n".join(rows)))
    return table
