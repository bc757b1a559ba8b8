"""`dashbelle settings`: the values in force and where each came from."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from dashbelle import settings
from dashbelle.cli.opened import MISUSED, fail


def show(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show every setting: its value and where that came from.

    Values come from the defaults, then <home>/dashbelle.toml, then DASHBELLE_* variables, then flags.

    Examples:

        dashbelle settings

        DASHBELLE_PORT=9000 dashbelle settings --json
    """
    try:
        loaded = settings.load()
    except settings.BadSetting as error:
        fail(str(error), MISUSED)
    values = loaded.settings.model_dump(mode="json")
    hidden = {name for name, field in settings.Settings.model_fields.items() if field.repr is False}
    rows = {name: "***" if name in hidden and value is not None else value for name, value in values.items()}
    if as_json:
        typer.echo(json.dumps({n: {"value": v, "source": loaded.sources[n]} for n, v in rows.items()}, indent=2))
        return
    table = Table("Setting", "Value", "From", box=box.SIMPLE_HEAD)
    for name, value in rows.items():
        table.add_row(name, ", ".join(value) if isinstance(value, list) else str(value), loaded.sources[name])
    Console().print(table)
