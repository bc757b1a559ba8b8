"""What a user sees at the first and at the second start; every snippet is run as it was printed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from native_client import BELLE, NativeClient

from running_server import RunningServer, make_home
from sdk_environment import sdk_python

SECRET = re.compile(r"sk-[0-9a-f]{64}")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[RunningServer]:
    """The very first start of a home."""
    server = RunningServer(make_home(tmp_path_factory.mktemp("first"), engine_cache)).start()
    yield server
    server.stop()


def snippets(banner: str) -> list[str]:
    """The export line and the three calls."""
    inside = banner.partition("Try it:\n")[2].partition("\nCtrl-C stops the server.")[0]
    return inside.strip().split("\n\n")


def run(first: RunningServer, snippet: str) -> str:
    """What a snippet prints in a shell in which the export line was run, beside an installed SDK."""
    export = snippets(first.stdout)[0]
    path = f"{sdk_python('1.25.0').parent}:{os.environ['PATH']}"
    outside = {name: value for name, value in os.environ.items() if not name.startswith("DASHSCOPE_")}
    finished = subprocess.run(
        ["bash", "-e", "-c", f"{export}\n{snippet}"],
        env={**outside, "PATH": path, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_banner_names_the_address_the_models_and_the_stand_in(first: RunningServer) -> None:
    banner = first.stdout
    assert f"is ready on {first.url}\n" in banner
    assert "\n  smollm2-135m-instruct\n" in banner
    assert f"{BELLE}: its weights are not here. The STAND-IN smollm2-135m-instruct answers for it" in banner
    assert "not BELLE; in Chinese it answers poorly" in banner


def test_the_first_start_prints_one_key_and_it_works(first: RunningServer) -> None:
    assert set(SECRET.findall(first.stdout)) == {first.key}
    assert first.stdout.count("API key:") == 1
    assert NativeClient(first, key=first.key).ask("Hello!", max_tokens=1).status_code == 200


def test_the_first_snippet_exports_the_key(first: RunningServer) -> None:
    assert run(first, "printenv DASHSCOPE_API_KEY").strip() == first.key


def test_the_curl_snippet_prints_an_answer(first: RunningServer) -> None:
    printed = run(first, snippets(first.stdout)[1])
    assert '"output":{"finish_reason":"' in printed


def test_the_streaming_curl_snippet_prints_events(first: RunningServer) -> None:
    printed = run(first, snippets(first.stdout)[2])
    assert printed.startswith("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{")
    assert printed.count("event:result") > 1


def test_the_python_snippet_prints_a_response(first: RunningServer) -> None:
    python = snippets(first.stdout)[3]
    assert python.startswith("# pip install dashscope\n")
    assert '"status_code": 200' in run(first, python)


def test_there_are_no_other_snippets(first: RunningServer) -> None:
    assert len(snippets(first.stdout)) == 4


def test_the_second_start_prints_no_key_and_the_first_one_still_works(first: RunningServer) -> None:
    key = first.key
    first.stop()
    first.start()
    assert not SECRET.search(first.stdout)
    assert "API key" not in first.stdout
    assert snippets(first.stdout)[0] == "export DASHSCOPE_API_KEY=sk-..."
    assert NativeClient(first, key=key).ask("Hello!", max_tokens=1).status_code == 200
