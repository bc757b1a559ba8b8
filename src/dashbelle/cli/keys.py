"""`dashbelle keys`: make, list and revoke API keys; prints a key once and never again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from dashbelle.admission.keys import BadKeyName, KeyNotChanged, KeyRecord
from dashbelle.cli.opened import FAILED, MISUSED, fail, opened_keys, run
from dashbelle.metering.report import iso

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")


@app.command()
def create(
    name: Annotated[str, typer.Option("--name", "-n", help="What to call the key, e.g. who uses it.")],
) -> None:
    """Make a key and print it. It is shown this once; only a digest of it is kept.

    Examples:

        dashbelle keys create --name laptop

        export DASHSCOPE_API_KEY=$(dashbelle keys create --name ci)
    """
    run(_create(name))


async def _create(name: str) -> None:
    async with opened_keys() as keys:
        try:
            secret = await keys.create(name)
        except BadKeyName as error:
            fail(str(error), MISUSED)
        except KeyNotChanged as error:
            fail(str(error), FAILED)
    typer.echo(f"Key '{name}' made. It is shown this once: keep it safe.", err=True)
    typer.echo(secret)


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List every key, revoked ones too. No key can be shown again, only how it begins.

    Examples:

        dashbelle keys list

        dashbelle keys list --json
    """
    run(_list(as_json=as_json))


async def _list(*, as_json: bool) -> None:
    async with opened_keys() as keys:
        records = await keys.list()
    if as_json:
        sys.stdout.writelines(_json_line(record) for record in records)
    elif records:
        Console().print(_table(records))
    else:
        typer.echo("No keys yet. Make one: dashbelle keys create --name NAME")


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="The key's name, as `dashbelle keys list` shows it.")]) -> None:
    """Revoke a key: calls with it are refused within a second. Its name can be used again.

    Examples:

        dashbelle keys revoke laptop
    """
    run(_revoke(name))
    typer.echo(f"Key '{name}' revoked.", err=True)


async def _revoke(name: str) -> None:
    async with opened_keys() as keys:
        try:
            await keys.revoke(name)
        except KeyNotChanged as error:
            fail(str(error), FAILED)


def _json_line(record: KeyRecord) -> str:
    values = {
        "name": record.name,
        "prefix": record.prefix,
        "created_at": iso(record.created_at),
        "revoked_at": None if record.revoked_at is None else iso(record.revoked_at),
    }
    return json.dumps(values) + "\n"


def _table(records: Sequence[KeyRecord]) -> Table:
    table = Table("Name", "Key", "Created (UTC)", "State", box=box.SIMPLE_HEAD)
    table.columns[0].overflow = "fold"
    for record in records:
        state = "live" if record.revoked_at is None else f"revoked {_minute(record.revoked_at)}"
        table.add_row(record.name, f"{record.prefix}…", _minute(record.created_at), state)
    return table


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
