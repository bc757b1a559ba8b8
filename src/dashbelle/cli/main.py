"""The command `dashbelle`: puts the families of commands together; says nothing itself but help and version."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from dashbelle.cli import backup, chat, doctor, keys, limits, models, prices, serve, settings, usage

app = typer.Typer(
    name="dashbelle",
    help="DashScope's text-generation service, BELLE-LLaMA included, on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(serve.serve)
app.command()(chat.chat)
app.command()(doctor.doctor)
app.add_typer(keys.app, name="keys")
app.add_typer(usage.app, name="usage")
app.add_typer(limits.app, name="limits")
app.add_typer(prices.app, name="prices")
app.add_typer(models.app, name="models")
app.command()(backup.backup)
app.command("settings")(settings.show)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dashbelle {version('dashbelle')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    app()
