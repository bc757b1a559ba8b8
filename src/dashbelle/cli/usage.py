"""`dashbelle usage`: what settled calls used, as a table, JSON lines, CSV or sums; and whether the ledger is sound."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from dashbelle.cli.opened import FAILED, MISUSED, fail, opened_ledger, opened_store, run
from dashbelle.metering.chain import Head, NotAHead
from dashbelle.metering.ledger import By, Sum
from dashbelle.metering.report import csv_header, csv_line, json_line, sum_rows
from dashbelle.metering.verify import Fault, Verdict, verify
from dashbelle.vocabulary import Receipt

NEWEST = 20
"""Calls that the table shows."""
MODEL_WIDTH = 24
"""Columns that "by smollm2-135m-instruct" takes."""

_AGO = re.compile(r"([0-9]{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

app = typer.Typer()


class BadMoment(ValueError):
    """A text that names no moment. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Period:
    """`since <= a call's end < until`; None is open."""

    since: datetime | None
    until: datetime | None

    @classmethod
    def of(cls, since: str | None, until: str | None, now: datetime) -> Period:
        """From the options' texts. Raises BadMoment."""
        period = cls(
            None if since is None else moment("--since", since, now),
            None if until is None else moment("--until", until, now, whole_day=True),
        )
        if period.since and period.until and period.since >= period.until:
            raise BadMoment(f"--since {since} is not before --until {until}")
        return period


def moment(option: str, text: str, now: datetime, *, whole_day: bool = False) -> datetime:
    """An ISO date or time (UTC unless it says otherwise), or how long ago. `whole_day`: a date means its end."""
    wrong = BadMoment(f"{option} {text!r}: use a date (2026-01-31), a time (2026-01-31T12:00) or an age (7d, 12h, 30m)")
    ago = _AGO.fullmatch(text)
    if ago:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        parsed = datetime.fromisoformat(text)
        if whole_day and _DAY.fullmatch(text):
            parsed += timedelta(days=1)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise wrong from None


@app.callback(invoke_without_command=True)
def usage(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line for each settled call.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as CSV, with a header line.")] = False,
    by: Annotated[str | None, typer.Option("--by", metavar="day|key|model", help="Sums instead of calls.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Calls that ended then or later: 2026-01-31, 7d, 12h. UTC.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Calls that ended before; a date means its whole day. UTC.")
    ] = None,
) -> None:
    """Show what calls used: the newest ones, or all of them with --json or --csv, oldest first.

    Examples:

        dashbelle usage --since 7d

        dashbelle usage --by key --since 2026-01-01 --until 2026-01-31

        dashbelle usage --csv > usage.csv

        dashbelle usage --json | jq .output_tokens
    """
    if context.invoked_subcommand is not None:
        return
    if [as_json, as_csv, by is not None].count(True) > 1:
        fail("use only one of --json, --csv and --by", MISUSED)
    try:
        period = Period.of(since, until, datetime.now(UTC))
    except BadMoment as error:
        fail(str(error), MISUSED)
    if by is not None:
        run(_print_sums(_group(by), period))
    elif as_json or as_csv:
        run(_print_lines(period, as_csv=as_csv))
    else:
        run(_print_newest(period))


@app.command("verify")
def verify_ledger(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The verdict as one JSON object.")] = False,
    witness: Annotated[
        str | None,
        typer.Option(metavar="HEAD", help="A head that an earlier run printed: the chain must lead through it."),
    ] = None,
) -> None:
    """Prove that no line of the ledger was changed, deleted or inserted, and that every sum agrees with the lines.

    The exit code is 1 if something is wrong. docs/billing.md says what this proves and what it cannot.

    Examples:

        dashbelle usage verify

        dashbelle usage verify --json | jq -r .head >> /somewhere/else

        dashbelle usage verify --witness 4711:5d3c...
    """
    try:
        head = None if witness is None else Head.parse(witness)
    except NotAHead:
        fail(f"--witness {witness!r}: use a head as `dashbelle usage verify` prints it, 4711:5d3c...", MISUSED)
    verdict = run(_verify(head))
    if as_json:
        values = {"ok": verdict.fault is None, "lines": verdict.lines, "head": str(verdict.head)}
        typer.echo(json.dumps({**values, "fault": verdict.fault and asdict(verdict.fault)}))
    elif verdict.fault is None:
        typer.echo(
            f"The ledger is sound: {verdict.lines:,} lines, and every sum agrees with them.\nHead: {verdict.head}"
        )
    if verdict.fault is not None:
        fail(f"the ledger is not sound: {_told(verdict.fault)}", FAILED)


async def _verify(witness: Head | None) -> Verdict:
    console = Console(stderr=True)
    async with opened_store() as store:
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            task = progress.add_task("Lines", total=None)
            return await verify(
                store,
                witness=witness,
                progress=lambda done, lines: progress.update(task, completed=done, total=lines),
            )


def _told(fault: Fault) -> str:
    line = "" if fault.line is None else f"the {fault.line} of {fault.request_id}"
    place = "" if fault.position is None else f"line {fault.position}"
    where = f"{line} ({place})" if line and place else line or place
    return f"{where}: {fault.what}" if where else fault.what


def _group(by: str) -> By:
    try:
        return By(by)
    except ValueError:
        fail(f"--by {by!r}: use {', '.join(By)}", MISUSED)


async def _print_lines(period: Period, *, as_csv: bool) -> None:
    line = csv_line if as_csv else json_line
    async with opened_ledger() as ledger:
        if as_csv:
            sys.stdout.write(csv_header())
        async for receipt in ledger.receipts(period.since, period.until):
            sys.stdout.write(line(receipt))


async def _print_sums(by: By, period: Period) -> None:
    async with opened_ledger() as ledger:
        sums = await ledger.sums(by, period.since, period.until)
    _show(_sums_table(by, sums) if sums else None, period)


async def _print_newest(period: Period) -> None:
    async with opened_ledger() as ledger:
        receipts = await ledger.newest(NEWEST, period.since, period.until)
    _show(_newest_table(receipts) if receipts else None, period)


def _show(table: Table | None, period: Period) -> None:
    if table is not None:
        Console().print(table)
    elif period.since or period.until:
        typer.echo("No settled calls in this period.")
    else:
        typer.echo("No settled calls yet.")


def _sums_table(by: By, sums: Sequence[Sum]) -> Table:
    rows = sum_rows(sums)
    table = Table(by.title() + (" (UTC)" if by == "day" else ""), box=box.SIMPLE_HEAD, show_footer=True)
    table.columns[0].footer = rows[-1][0]
    table.columns[0].overflow = "fold"
    for heading, total in zip(("Calls", "Input tokens", "Output tokens"), rows[-1][1:], strict=True):
        table.add_column(heading, footer=total, justify="right", no_wrap=True)
    for row in rows[:-1]:
        table.add_row(*map(Text, row))
    return table


def _newest_table(receipts: Sequence[Receipt]) -> Table:
    """Folded rather than cut: a name that cannot be read in full cannot be used."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    if len(receipts) == NEWEST:
        table.caption = f"The newest {NEWEST}; all of them: --json or --csv"
    table.add_column("Ended (UTC)", no_wrap=True)
    table.add_column("Key", overflow="fold")
    table.add_column("Model", overflow="fold", width=MODEL_WIDTH)
    for heading in ("Input", "Output"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("End", no_wrap=True)
    for receipt in receipts:
        counts = (f"{receipt.input_tokens:,}", f"{receipt.output_tokens:,}")
        ended = f"{receipt.ended_at:%Y-%m-%d %H:%M}"
        table.add_row(ended, Text(receipt.key), Text(_model(receipt)), *counts, receipt.end_reason.value)
    return table


def _model(receipt: Receipt) -> str:
    same = receipt.model == receipt.served_model
    return receipt.model if same else f"{receipt.model}\nby {receipt.served_model}"
