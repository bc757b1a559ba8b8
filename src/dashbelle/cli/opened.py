"""Opens what a command needs by the settings, and turns what can go wrong into one line and an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import NoReturn, TypeVar

import typer

from dashbelle import settings
from dashbelle.admission.keys import Keys, PepperUnusable, load_pepper
from dashbelle.metering.ledger import Ledger
from dashbelle.store import Store, StoreUnavailable

FAILED = 1
MISUSED = 2

T = TypeVar("T")


def fail(message: str, code: int) -> NoReturn:
    """End the command with one line on stderr."""
    typer.echo(f"dashbelle: {message}", err=True)
    raise typer.Exit(code)


def run(work: Coroutine[object, object, T]) -> T:
    """Run a command's work; a setting or a database that cannot be used ends it with one line."""
    try:
        result = asyncio.run(work)
        sys.stdout.flush()  # here, where a reader that has left (| head) is still met with silence
    except settings.BadSetting as error:
        fail(str(error), MISUSED)
    except (StoreUnavailable, PepperUnusable) as error:
        fail(str(error), FAILED)
    except BrokenPipeError:
        raise  # typer ends the command quietly
    except OSError as error:
        # What is still buffered would fail again at exit, with a trace (from the docs of Python's signal module).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"cannot write the output: {error.strerror}", FAILED)
    return result


@asynccontextmanager
async def opened_keys() -> AsyncIterator[Keys]:
    """The keys of the database in force. Raises BadSetting, StoreUnavailable, PepperUnusable."""
    loaded = settings.load().settings
    pepper = load_pepper(loaded.home)
    async with Store.open(loaded.database) as store:
        yield Keys(store, pepper)


@asynccontextmanager
async def opened_ledger() -> AsyncIterator[Ledger]:
    """The ledger of the database in force. Raises BadSetting, StoreUnavailable."""
    async with opened_store() as store:
        yield Ledger(store)


def opened_store() -> Store:
    """The database in force; close it. Raises BadSetting, StoreUnavailable."""
    return Store.open(settings.load().settings.database)
