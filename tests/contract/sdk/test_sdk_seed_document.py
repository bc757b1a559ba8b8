"""Item 56: the samples of the document that this project implements, run as they stand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sdk_release import SdkRelease

from running_server import RunningServer

ROOT = Path(__file__).parents[3]
CLOUD = "https://dashscope.aliyuncs.com"
WRONG = "sk-wrong"
REFUSED = {"code": "InvalidApiKey", "message": "Invalid API-key provided."}
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="session")
def document() -> str:
    """Its text."""
    found = sorted((ROOT.parent / "shared").glob("seed-*.txt"))
    if not found:
        pytest.skip("the document is not part of a clone")
    return found[0].read_text()


@pytest.fixture
def python_sample(document: str, tmp_path: Path) -> Path:
    """Its Python sample as a file, to the letter."""
    (sample,) = re.findall(r"^# coding=utf-8\n.*?(?=^// )", document, flags=re.MULTILINE | re.DOTALL)
    path = tmp_path / "sample.py"
    path.write_text(sample)
    return path


@pytest.fixture
def curl_sample(document: str, belle_server: RunningServer) -> str:
    """Its curl sample, with our address in place of the cloud's."""
    (sample,) = re.findall(r"^curl .*?^\}'$", document, flags=re.MULTILINE | re.DOTALL)
    assert sample.count(CLOUD) == 1
    return str(sample).replace(CLOUD, belle_server.url)


def test_56_the_python_sample_prints_an_answer(
    sdk: SdkRelease, belle_server: RunningServer, python_sample: Path
) -> None:
    finished = sdk.run(python_sample, belle_server.url, belle_server.key)
    assert finished.returncode == 0, finished.stderr
    printed = json.loads(finished.stdout)
    assert {"status_code", "request_id", "code", "message", "output", "usage"} <= set(printed)
    assert (printed["status_code"], printed["code"], printed["message"]) == (200, "", "")
    assert printed["output"]["text"]
    assert printed["usage"]["input_tokens"] > 0
    assert printed["usage"]["output_tokens"] > 0


def test_56_the_python_sample_prints_why_a_key_is_refused(
    sdk: SdkRelease, belle_server: RunningServer, python_sample: Path
) -> None:
    finished = sdk.run(python_sample, belle_server.url, WRONG)
    assert finished.stdout == "Code: 401, status: InvalidApiKey, message: Invalid API-key provided.\n"


@needs_curl
def test_the_curl_sample_prints_an_answer(belle_server: RunningServer, curl_sample: str) -> None:
    printed = json.loads(run(curl_sample, belle_server.key))
    assert printed["output"]["text"]
    assert printed["request_id"]


@needs_curl
@pytest.mark.parametrize("header", ["X-DashScope-SSE: enable", "Accept: text/event-stream"])
def test_the_curl_sample_with_either_header_prints_events(
    belle_server: RunningServer, curl_sample: str, header: str
) -> None:
    printed = run(f"{curl_sample} --header '{header}'", belle_server.key)
    assert printed.startswith("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{")
    assert printed.endswith("}\n\n")
    last = json.loads(printed.rstrip().rpartition("\ndata:")[2])
    assert last["output"]["finish_reason"] in {"stop", "length"}


@needs_curl
@pytest.mark.parametrize("more", ["", " --header 'X-DashScope-SSE: enable'"], ids=["whole", "streamed"])
def test_the_curl_sample_prints_why_a_key_is_refused(curl_sample: str, more: str) -> None:
    printed = json.loads(run(curl_sample + more, WRONG))
    assert printed.pop("request_id")
    assert printed == REFUSED


def run(sample: str, key: str) -> str:
    """What a shell prints for a curl sample with this key."""
    command = sample.replace("<your-dashscope-api-key>", key)
    assert key in command
    finished = subprocess.run(
        ["bash", "-c", f"export NO_PROXY=127.0.0.1\n{command} --silent"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
