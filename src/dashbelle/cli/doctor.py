"""`dashbelle doctor`: prints what an examination of a server found, and ends with 1 if something is broken."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dashbelle import settings
from dashbelle.cli.chat import KEY_VARIABLE, default_url
from dashbelle.cli.examination import Examination, Finding, State
from dashbelle.cli.opened import FAILED, MISUSED, fail
from dashbelle.cli.remote import CannotAsk, RemoteServer

_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red", State.SKIP: "dim"}


def doctor(
    url: Annotated[str | None, typer.Argument(help="As clients reach it [default: this machine].")] = None,
    key: Annotated[str | None, typer.Option(help=f"API key [default: {KEY_VARIABLE}].")] = None,
    model: Annotated[str | None, typer.Option(help="Model for the test stream [default: the server's first].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Find out why calls fail or streams stutter: server, key, models, and whatever lies between.

    The test stream is a call like any other: some dozen tokens on the key's account.

    Examples:

        dashbelle doctor

        dashbelle doctor https://llm.example.com --key sk-...

        dashbelle doctor https://llm.example.com --json
    """
    secret = key or os.environ.get(KEY_VARIABLE) or None
    try:
        where = url or default_url()
        findings = asyncio.run(examine(where, secret, model))
    except (settings.BadSetting, CannotAsk) as error:
        fail(str(error), MISUSED)
    if as_json:
        typer.echo(json_of(where, findings))
    else:
        Console().print(table_of(findings))
    if not is_well(findings):
        raise typer.Exit(FAILED)


async def examine(url: str, key: str | None, model: str | None) -> list[Finding]:
    """Examine the server at `url`. Raises CannotAsk for what is no URL."""
    server = RemoteServer(url, key)
    try:
        return await Examination(server, has_key=key is not None, model=model).run()
    finally:
        await server.close()


def is_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing is broken; a warning is not."""
    return all(finding.state is not State.FAIL for finding in findings)


def table_of(findings: Sequence[Finding]) -> Table:
    """The findings for people, what to do below what was seen."""
    table = Table("Check", "State", "What was found, and → what to do", box=box.SIMPLE_HEAD)
    for finding in findings:
        text = Text(finding.seen)
        if finding.advice:
            text.append(f"\n→ {finding.advice}")
        table.add_row(finding.check, Text(finding.state, _STYLES[finding.state]), text)
    return table


def json_of(url: str, findings: Sequence[Finding]) -> str:
    """The findings for programs."""
    checks = [
        {"check": finding.check, "state": finding.state, "seen": finding.seen, "advice": finding.advice}
        for finding in findings
    ]
    return json.dumps({"url": url, "ok": is_well(findings), "checks": checks}, ensure_ascii=False)
