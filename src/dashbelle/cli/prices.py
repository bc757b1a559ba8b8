"""`dashbelle prices`: what a model's tokens cost in budgets of money."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dashbelle.cli.limits import exact
from dashbelle.cli.opened import FAILED, MISUSED, fail, opened_store, run
from dashbelle.metering.budgets import Price, money
from dashbelle.metering.limits import BadLimit, Limits

MILLION = 10**6
THOUSANDTHS = 1000
"""Of the currency per million tokens: billionths per token."""

app = typer.Typer(no_args_is_help=True, help="Set, list and remove the prices of models.")


@app.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="The model that answers, as `served_model` in the usage.")],
    *,
    input_price: Annotated[str, typer.Option("--input", help="Per million tokens of prompts, e.g. 0.80.")],
    output_price: Annotated[str, typer.Option("--output", help="Per million tokens of answers, e.g. 2.00.")],
) -> None:
    """Set what a model costs from now on. Calls that run keep the price that they began with.

    Examples:

        dashbelle prices set smollm2-135m-instruct --input 0.80 --output 2.00
    """
    price = Price(exact("--input", input_price, THOUSANDTHS), exact("--output", output_price, THOUSANDTHS))
    run(_set(model, price))


async def _set(model: str, price: Price) -> None:
    async with opened_store() as store:
        try:
            await Limits(store).set_price(model, price)
        except BadLimit as error:
            fail(str(error), MISUSED)


@app.command("list")
def list_prices(*, as_json: Annotated[bool, typer.Option("--json", help="One JSON object per model.")] = False) -> None:
    """List the prices, per million tokens. A model without one is free.

    Examples:

        dashbelle prices list
    """
    prices = run(_list())
    if as_json:
        sys.stdout.writelines(_json_line(model, price) for model, price in prices.items())
    elif prices:
        Console().print(_table(prices))
    else:
        typer.echo("No prices: every model is free. Set one: dashbelle prices set MODEL --input 0.80 --output 2.00")


async def _list() -> dict[str, Price]:
    async with opened_store() as store:
        return await Limits(store).prices()


@app.command()
def remove(model: Annotated[str, typer.Argument(help="The model.")]) -> None:
    """Make a model free again.

    Examples:

        dashbelle prices remove smollm2-135m-instruct
    """
    if not run(_remove(model)):
        fail(f"{model!r} has no price", FAILED)


async def _remove(model: str) -> bool:
    async with opened_store() as store:
        return await Limits(store).remove_price(model)


def _json_line(model: str, price: Price) -> str:
    return (
        json.dumps({"model": model, "input": money(price.input * MILLION), "output": money(price.output * MILLION)})
        + "\n"
    )


def _table(prices: Mapping[str, Price]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("Model", overflow="fold")
    table.add_column("Input per million", justify="right")
    table.add_column("Output per million", justify="right")
    for model, price in prices.items():
        table.add_row(Text(model), money(price.input * MILLION), money(price.output * MILLION))
    return table
