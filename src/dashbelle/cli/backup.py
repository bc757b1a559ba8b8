"""`dashbelle backup`: a copy of the database while it is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dashbelle import settings
from dashbelle.admission.keys import PEPPER
from dashbelle.cli.opened import run
from dashbelle.store import back_up


def backup(target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; must not exist.")]) -> None:
    """Copy the database (keys, ledger, limits) to FILE, while the server runs. SQLite only; Postgres has pg_dump.

    The copy is what was committed at one moment. Keep the pepper with it: without that no key in it works.

    Examples:

        dashbelle backup /backups/dashbelle-2026-01-31.db
    """
    target = target.absolute()
    home = run(_back_up(target))
    typer.echo(f"{target}: {target.stat().st_size:,} bytes. Keep {home / PEPPER} with it.")
    typer.echo(f"To prove it: DASHBELLE_DATABASE_URL=sqlite:///{target} dashbelle usage verify", err=True)


async def _back_up(target: Path) -> Path:
    loaded = settings.load().settings
    await back_up(loaded.database, target)
    return loaded.home
