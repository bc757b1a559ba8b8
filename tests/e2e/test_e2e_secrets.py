"""Nothing that was said to or by a model, and no key, is found in what the server prints, logs or keeps."""

from __future__ import annotations

import json
import os
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from native_client import ENDLESS, PATH, NativeClient

from running_server import RunningServer, make_home


@dataclass(frozen=True)
class Aftermath:
    """A server that was used in every way and has ended, and what must not be found."""

    server: RunningServer
    said: list[str]
    request_ids: list[str]
    foreign_key: str


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Aftermath:
    """Calls that end well, badly, early and in error, each with a word that occurs nowhere else."""
    home = make_home(tmp_path_factory.mktemp("secrets"), engine_cache)
    server = RunningServer(home, settings={"log_level": "debug"}).start()
    foreign_key = f"sk-{secrets.token_hex(32)}"
    canaries = [f"canary{secrets.token_hex(8)}" for _ in range(7)]
    client, intruder = NativeClient(server), NativeClient(server, key=foreign_key)
    answered = client.ask(f"Say {canaries[0]} twice.", max_tokens=60, temperature=0)
    with client.stream(f"Say {canaries[1]} twice.", max_tokens=60, temperature=0) as stream:
        streamed = stream.last()
    responses = [
        answered,
        intruder.ask(canaries[2]),
        client.ask(canaries[3], max_tokens=-1),
        client.post(f'{{"model": "echo", "input": "{canaries[4]}"'.encode()),
        client.post({"model": "echo", "input": {"prompt": canaries[4] * 10}}),
        httpx2.get(f"{server.url}{PATH}?api_key={foreign_key}&q={canaries[5]}", trust_env=False),
    ]
    with client.stream(f"Write a long story about {canaries[6]}.", **ENDLESS) as broken:
        told = next(event.text for event in broken if len(event.text) > 60)
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert broken.last().kind == "error"
    server.stop()
    said = [*canaries, *sentences(answered.json()["output"]["text"]), *sentences(streamed.text), told]
    request_ids = [response.headers["x-request-id"] for response in responses]
    return Aftermath(server, said, [*request_ids, stream.request_id, broken.request_id], foreign_key)


def sentences(text: str) -> list[str]:
    """The pieces of an answer that are long enough to be recognized."""
    return [line for line in text.splitlines() if len(line) > 12]


def test_no_prompt_and_no_answer_is_printed_or_logged(aftermath: Aftermath) -> None:
    output = aftermath.server.stdout + aftermath.server.stderr
    assert len(aftermath.said) > 8
    assert not [text for text in aftermath.said if text in output or json.dumps(text)[1:-1] in output]


def test_no_prompt_and_no_answer_is_kept(aftermath: Aftermath) -> None:
    files = kept(aftermath.server.home)
    assert not [text for text in aftermath.said if any(text.encode() in content for content in files.values())]


def test_no_key_is_logged_or_kept(aftermath: Aftermath) -> None:
    server = aftermath.server
    texts = {"stderr": server.stderr.encode(), **kept(server.home)}
    for key in (server.key, aftermath.foreign_key):
        spellings = (key.encode(), key.removeprefix("sk-").encode(), bytes.fromhex(key.removeprefix("sk-")))
        assert not [name for name, text in texts.items() if any(spelling in text for spelling in spellings)]
    assert aftermath.foreign_key not in server.stdout


def test_every_request_has_one_line_in_the_log_with_its_id(aftermath: Aftermath) -> None:
    lines = [json.loads(line) for line in aftermath.server.stderr.splitlines()]
    logged = [line["request_id"] for line in lines if line["event"] == "request"]
    assert [logged.count(request_id) for request_id in aftermath.request_ids] == [1] * len(aftermath.request_ids)


def kept(home: Path) -> dict[str, bytes]:
    """Every file under a home, but for the model's."""
    files = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file() and path.parent.name != "cache"}
    assert any(name.endswith("dashbelle.db") for name in files)
    return files
