"""Examines a server through whatever lies between: what was found, and what to do; prints nothing."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version
from typing import Any

import httpx2

from dashbelle.cli.pacing import ANYWHERE, Arrivals, Pacing, hops, traces
from dashbelle.cli.remote import CannotAsk, KeyRefused, ListedModel, RemoteServer, choose, raise_for
from dashbelle.models.presets import ECHO

CHECKS = ("reach", "versions", "clock", "ready", "key", "models", "stream")
ESSENTIAL = {"reach", "key", "models"}
"""Without these the later ones make no sense."""
SKEW_S = 60.0
"""Clocks further apart make logs hard to compare."""
ECHO_CHARACTERS = 2000
"""The echo model answers as much as it is asked; with less there would be nothing to time."""
ANSWER_TOKENS = 64
KEPT_BYTES = 4096
"""Of the stream's end."""


class State(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: State
    seen: str
    advice: str = ""


class Examination:
    """One server, looked at step by step until a step shows that the next ones cannot succeed."""

    def __init__(
        self,
        server: RemoteServer,
        *,
        has_key: bool,
        model: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`model` answers the test stream, or else the server's first."""
        self._server = server
        self._has_key = has_key
        self._wanted = model
        self._clock = clock
        self._now = now
        self._findings: dict[str, Finding] = {}
        self._listed: list[ListedModel] = []

    async def run(self) -> list[Finding]:
        """One finding per check."""
        for check, step in (
            ("reach", self._reach),
            ("ready", self._readiness),
            ("key", self._key),
            ("models", self._models),
            ("stream", self._stream),
        ):
            try:
                await step()
            except CannotAsk as error:
                self._find(check, State.FAIL, str(error))
            if check in ESSENTIAL and self._findings[check].state is State.FAIL:
                break
        return [self._findings.get(check, Finding(check, State.SKIP, "not looked at")) for check in CHECKS]

    def _find(self, check: str, state: State, seen: str, advice: str = "") -> None:
        self._findings[check] = Finding(check, state, seen, advice)

    async def _reach(self) -> None:
        began = self._clock()
        reply = await self._server.get("/healthz")
        took_ms = (self._clock() - began) * 1000
        if reply.is_redirect or reply.is_server_error:
            raise_for(reply, self._server.url)
        if reply.status_code == httpx2.codes.OK and _status_of(reply) == "alive":
            self._find("reach", State.OK, f"{self._server.url} answers in {took_ms:.0f} ms")
        else:
            self._find(
                "reach",
                State.WARN,
                f"{self._server.url}/healthz answers {reply.status_code}, and not as Dashbelle would",
                "fine if a proxy keeps that path to itself; else look who listens there",
            )
        self._compare(reply)

    def _compare(self, reply: httpx2.Response) -> None:
        """Versions and clocks, as far as a reply tells them."""
        through = "".join(f", through {hop.name}" for hop in hops(reply.headers))
        here = f"dashbelle {version('dashbelle')} and Python {platform.python_version()} here"
        self._find("versions", State.OK, f"{here}; {reply.http_version}{through}")
        skew_s = _skew_s(reply.headers, self._now())
        if skew_s is None:
            self._find("clock", State.SKIP, "the replies have no Date")
        elif abs(skew_s) > SKEW_S:
            seen = f"theirs is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
            self._find("clock", State.WARN, seen, "let both machines keep their time by NTP")
        else:
            self._find("clock", State.OK, "theirs and ours agree")

    async def _readiness(self) -> None:
        reply = await self._server.get("/readyz")
        status = _status_of(reply)
        if status == "not ready":
            self._find("ready", State.FAIL, "; ".join(reply.json()["reasons"]), "wait, or see why in its log")
        elif status == "ready":
            self._find("ready", State.OK, "it takes calls")
        else:
            self._find("ready", State.SKIP, f"/readyz is not open from here (status {reply.status_code})")

    async def _key(self) -> None:
        if not self._has_key:
            advice = "--key KEY, or set DASHSCOPE_API_KEY; 'dashbelle keys create --name doctor' makes one"
            self._find("key", State.FAIL, "none was given", advice)
            return
        try:
            self._listed = await self._server.models()
        except KeyRefused:
            advice = "'dashbelle keys list' shows the live ones; a proxy must let Authorization pass"
            self._find("key", State.FAIL, "the server refuses it", advice)
        else:
            self._find("key", State.OK, "the server takes it")

    async def _models(self) -> None:
        if not self._listed:
            raise CannotAsk("the server has no model")
        names = ", ".join(model.name for model in self._listed)
        stand_ins = [f"{model.served_by} for {model.name}" for model in self._listed if model.served_by != model.name]
        if stand_ins:
            seen, advice = f"{names}; STAND-IN: {', '.join(stand_ins)}", "get the weights: dashbelle models pull NAME"
            self._find("models", State.WARN, seen, advice)
        else:
            self._find("models", State.OK, names)

    async def _stream(self) -> None:
        model = choose(self._listed, self._wanted)
        arrivals, headers, last = await self._arrivals(model)
        if b"event:error" in last:
            raise CannotAsk(f"the stream ends with an error: {last.partition(b'data:')[2].decode(errors='replace')}")
        if b'"finish_reason":"null"' in last:
            raise CannotAsk("the stream ends before the answer does: a hop cut it off")
        self._findings["stream"] = stream_finding(arrivals, headers)

    async def _arrivals(self, model: ListedModel) -> tuple[Arrivals, Mapping[str, str], bytes]:
        """One stream: when its events came, its head, and its last event."""
        arrivals, text = Arrivals(), b""
        began = self._clock()
        async with self._server.events(_question(model)) as response:
            async for piece in response.aiter_bytes():
                arrivals.note(self._clock() - began, piece)
                text = (text + piece)[-KEPT_BYTES:]
            return arrivals, response.headers, text.rstrip().rpartition(b"\n\n")[2]


def stream_finding(arrivals: Arrivals, headers: Mapping[str, str]) -> Finding:
    """What the arrivals of one stream mean, and who is to blame if they came in lumps."""
    count = f"{arrivals.events} events"
    spread = f"{count} from {arrivals.first_s:.2f} s to {arrivals.last_s:.2f} s"
    signs = traces(headers)
    blamed = hops(headers)
    who = ", ".join(hop.name for hop in blamed) or "a hop that does not name itself"
    advice = "; ".join(f"{hop.name}: {hop.advice}" for hop in blamed) or ANYWHERE
    match arrivals.pacing:
        case Pacing.SMOOTH:
            return Finding("stream", State.OK, f"{spread}, one by one")
        case Pacing.AT_ONCE:
            seen = f"{count} at once after {arrivals.last_s:.2f} s: {who} holds the stream back"
            return Finding("stream", State.FAIL, "; ".join([seen, *signs]), advice)
        case Pacing.LUMPS:
            seen = f"{spread}, in {len(arrivals.pieces)} lumps: {who} gathers them"
            return Finding("stream", State.FAIL, "; ".join([seen, *signs]), advice)
        case Pacing.UNKNOWN:
            seen = f"{spread}: too few or too fast to tell"
            return Finding("stream", State.WARN, "; ".join([seen, *signs]), "--model NAME with a model that thinks")


def _question(model: ListedModel) -> dict[str, Any]:
    """A call whose answer is long enough to be timed."""
    if model.served_by == ECHO:
        return {
            "model": model.name,
            "input": {"prompt": "x" * ECHO_CHARACTERS},
            "parameters": {"incremental_output": True},
        }
    question = "Count from one to one hundred, in words."
    return {
        "model": model.name,
        "input": {"messages": [{"role": "user", "content": question}]},
        "parameters": {"incremental_output": True, "max_tokens": ANSWER_TOKENS},
    }


def _status_of(reply: httpx2.Response) -> str | None:
    """The word that Dashbelle's own health routes say."""
    try:
        body = reply.json()
    except ValueError:
        return None
    return body.get("status") if isinstance(body, dict) else None


def _skew_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How far ahead their clock is, by the Date of a reply."""
    try:
        return (parsedate_to_datetime(headers["date"]) - now).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None
