"""`dashbelle doctor`: each thing that can be wrong is found, blamed on the right one, and nothing else is."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
from fake_server import KEY, URL, FakeServer, error, event, refusing
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from dashbelle.cli import doctor
from dashbelle.cli.doctor import is_well, json_of, table_of
from dashbelle.cli.examination import CHECKS, Examination, Finding, State
from dashbelle.cli.remote import RemoteServer

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MANY = [event(str(n)) for n in range(19)] + [event("", finish="stop")]

app = Typer()
app.command()(doctor.doctor)


class Clock:
    """A tenth of a second later at every look."""

    def __init__(self) -> None:
        self._looks = 0

    def __call__(self) -> float:
        self._looks += 1
        return self._looks / 10


async def examined(server: FakeServer, *, key: str | None = KEY, model: str | None = None) -> dict[str, Finding]:
    remote = RemoteServer(URL, key, transport=server)
    examination = Examination(remote, has_key=key is not None, model=model, clock=Clock(), now=lambda: NOON)
    findings = await examination.run()
    assert [finding.check for finding in findings] == list(CHECKS)
    return {finding.check: finding for finding in findings}


def states(findings: dict[str, Finding]) -> str:
    """The states in order, by their first letters."""
    return " ".join(findings[check].state[0] for check in CHECKS)


async def test_a_well_server_is_well() -> None:
    findings = await examined(FakeServer(*MANY))
    assert states(findings) == "o o s o o o o"
    assert is_well(list(findings.values()))
    assert findings["stream"].seen == "20 events from 0.10 s to 2.00 s, one by one"
    assert findings["reach"].seen == "http://server answers in 100 ms"


async def test_a_server_that_is_not_there_ends_the_examination() -> None:
    findings = await examined(FakeServer(healthz=refusing(httpx2.ConnectError("refused"))))
    assert states(findings) == "f s s s s s s"
    assert "start one: dashbelle serve" in findings["reach"].seen


@pytest.mark.parametrize(
    ("reply", "state", "seen"),
    [
        (lambda _: httpx2.Response(301, headers={"location": "https://x/"}), "fail", "callers on to https://x/"),
        (lambda _: httpx2.Response(502, html="<h1>"), "fail", "cannot reach the server behind it (status 502)"),
        (lambda _: error(503, "ModelServingError", "Too many connections."), "fail", "Too many connections."),
        (lambda _: httpx2.Response(404, html="<h1>"), "warn", "/healthz answers 404"),
        (lambda _: httpx2.Response(200, html="<h1>Welcome to nginx!"), "warn", "not as Dashbelle would"),
        (lambda _: httpx2.Response(200, json=[1]), "warn", "not as Dashbelle would"),
    ],
)  # fmt: skip
async def test_who_answers_in_its_place_is_told(reply: Any, state: str, seen: str) -> None:  # noqa: ANN401
    finding = (await examined(FakeServer(*MANY, healthz=reply)))["reach"]
    assert finding.state == state
    assert seen in finding.seen


@pytest.mark.parametrize(
    ("ahead_s", "state", "seen"),
    [
        (0, "ok", "agree"),
        (59, "ok", "agree"),
        (-61, "warn", "theirs is 61 s behind"),
        (7200, "warn", "theirs is 7200 s ahead"),
    ],
)
async def test_clocks_are_compared(ahead_s: int, state: str, seen: str) -> None:
    date = format_datetime(datetime.fromtimestamp(NOON.timestamp() + ahead_s, UTC), usegmt=True)
    finding = (await examined(FakeServer(*MANY, headers={"date": date})))["clock"]
    assert (finding.state, seen in finding.seen) == (state, True)


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 31 Jan 2026 12:00:00"])
async def test_a_date_that_is_none_is_skipped(date: str) -> None:
    assert (await examined(FakeServer(*MANY, headers={"date": date})))["clock"].state == State.SKIP


async def test_a_server_that_still_loads_says_what() -> None:
    body = {"status": "not ready", "reasons": ["belle: loading", "echo: starting"]}
    findings = await examined(FakeServer(*MANY, readyz=lambda _: httpx2.Response(503, json=body)))
    assert (findings["ready"].state, findings["ready"].seen) == (State.FAIL, "belle: loading; echo: starting")
    hidden = await examined(FakeServer(*MANY, readyz=lambda _: httpx2.Response(403, html="")))
    assert hidden["ready"].state == State.SKIP


@pytest.mark.parametrize(("key", "seen"), [(None, "none was given"), ("sk-wrong", "the server refuses it")])
async def test_without_a_good_key_the_rest_is_not_looked_at(key: str | None, seen: str) -> None:
    findings = await examined(FakeServer(*MANY), key=key)
    assert states(findings) == "o o s o f s s"
    assert findings["key"].seen == seen
    assert findings["key"].advice


async def test_a_stand_in_is_a_warning() -> None:
    findings = await examined(FakeServer(*MANY, models=[("belle", "small"), ("small", "small")]))
    assert findings["models"].seen == "belle, small; STAND-IN: small for belle"
    assert findings["models"].state == State.WARN
    assert is_well(list(findings.values()))


async def test_a_server_without_models_and_an_unknown_model_are_failures() -> None:
    assert states(await examined(FakeServer(*MANY, models=[]))) == "o o s o o f s"
    findings = await examined(FakeServer(*MANY), model="nix")
    assert (findings["stream"].state, findings["stream"].seen) == (
        State.FAIL,
        "the server has no model 'nix'; it has: echo",
    )


@pytest.mark.parametrize(
    ("pieces", "seen"),
    [
        ([error(429, "Throttling.RateQuota", "Slow down.")], "Slow down. (Throttling.RateQuota)"),
        ([*MANY[:9], httpx2.ReadError("reset")], "broke off: reset"),
        ([*MANY[:9], b'id:10\nevent:error\n:HTTP_STATUS/500\ndata:{"code":"Oh"}\n\n'], 'with an error: {"code":"Oh"}'),
        (MANY[:9], "a hop cut it off"),
    ],
)  # fmt: skip
async def test_a_stream_that_fails_says_how(pieces: Sequence[Any], seen: str) -> None:
    refused = isinstance(pieces[0], httpx2.Response)
    server = FakeServer(generation=lambda _: pieces[0]) if refused else FakeServer(*pieces)
    finding = (await examined(server))["stream"]
    assert finding.state == State.FAIL
    assert seen in finding.seen


async def test_a_stream_that_comes_at_once_is_blamed_on_the_hop_that_names_itself() -> None:
    finding = (await examined(FakeServer(b"".join(MANY), event_headers={"server": "nginx/1.24"})))["stream"]
    assert finding.state == State.FAIL
    assert finding.seen == "20 events at once after 0.10 s: nginx holds the stream back"
    assert finding.advice.startswith("nginx: 'proxy_buffering off'")


async def test_a_hop_without_a_name_is_told_by_its_traces() -> None:
    whole = b"".join(MANY)
    finding = (await examined(FakeServer(whole, event_headers={"content-length": str(len(whole))})))["stream"]
    assert "a hop that does not name itself holds the stream back; it has a Content-Length" in finding.seen


async def test_lumps_are_a_failure_too() -> None:
    lumps = [b"".join(MANY[:10]), b"".join(MANY[10:])]
    finding = (await examined(FakeServer(*lumps)))["stream"]
    assert finding.state == State.FAIL
    assert "from 0.10 s to 0.20 s, in 2 lumps" in finding.seen


async def test_too_little_to_judge_is_a_warning() -> None:
    assert (await examined(FakeServer()))["stream"].state == State.WARN


async def test_the_echo_model_is_asked_for_something_long() -> None:
    server = FakeServer(*MANY, models=[("parrot", "echo"), ("small", "small")])
    await examined(server)
    await examined(server, model="small")
    assert len(server.bodies[0]["input"]["prompt"]) >= 1000
    assert server.bodies[1]["parameters"]["max_tokens"] <= 100


FINDINGS = [
    Finding("reach", State.OK, "http://server answers"),
    Finding("stream", State.FAIL, "[bold]at once[/bold]", "proxy_buffering off " * 10),
]


def test_the_table_fits_80_columns_and_shows_what_to_do() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table_of(FINDINGS))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 80
    assert "→ proxy_buffering off" in shown
    assert "[bold]at once[/bold]" in shown


def test_the_json_is_one_object() -> None:
    told = json.loads(json_of(URL, FINDINGS))
    assert (told["url"], told["ok"]) == (URL, False)
    assert told["checks"][0] == {"check": "reach", "state": "ok", "seen": "http://server answers", "advice": ""}


def test_what_is_no_url_is_a_misuse() -> None:
    ended = CliRunner().invoke(app, ["ftp://x", "--key", "sk-x"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == "dashbelle: 'ftp://x' is no URL such as http://127.0.0.1:8080\n"
