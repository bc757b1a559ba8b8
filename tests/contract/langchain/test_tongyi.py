"""langchain-community's Tongyi and ChatTongyi, pointed here by dashscope's environment variables alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from running_server import RunningServer
from sdk_environment import LANGCHAIN_VERSION, langchain_python

pytestmark = pytest.mark.client(f"langchain-community {LANGCHAIN_VERSION}")

PROMPT = "Human:你好,世界 😀\n\nAssistant:"
SAID = {"Tongyi": PROMPT, "ChatTongyi": f"Human:{PROMPT}\n\nAssistant:"}
"""ChatTongyi sends its text as a message, which echo's template renders."""

Observations = dict[str, Any]


@pytest.fixture(scope="module")
def seen(echo_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Observations:
    """What both classes saw."""
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("langchain")),
        "DASHSCOPE_API_KEY": echo_server.key,
        "DASHSCOPE_HTTP_BASE_URL": f"{echo_server.url}/api/v1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [str(langchain_python()), str(Path(__file__).with_name("cases_tongyi.py")), PROMPT]
    finished = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=110, check=False)
    assert finished.returncode == 0, finished.stderr
    value: Observations = json.loads(finished.stdout)
    return value


@pytest.mark.item(48, 49)
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("kind", SAID)
def test_a_call_gives_the_text(seen: Observations, kind: str, way: str) -> None:
    assert seen[kind][way] == SAID[kind]


@pytest.mark.item(64)
@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("kind", SAID)
def test_the_pieces_of_a_stream_add_up(seen: Observations, kind: str, way: str) -> None:
    assert len(seen[kind][way]) > 10
    assert "".join(seen[kind][way]) == SAID[kind]


@pytest.mark.item(42)
@pytest.mark.parametrize("kind", SAID)
def test_a_stop_text_is_obeyed(seen: Observations, kind: str) -> None:
    assert seen[kind]["stop"] == SAID[kind].partition("世界")[0]


@pytest.mark.item(14)
@pytest.mark.parametrize("kind", SAID)
def test_a_wrong_key_is_an_error_that_says_so(seen: Observations, kind: str) -> None:
    error = seen[kind]["wrong_key"]
    assert error["raised"] == "ValueError"
    assert "status_code: 401" in error["text"]
    assert "InvalidApiKey" in error["text"]


@pytest.mark.item(48, 49)
@pytest.mark.parametrize("kind", SAID)
def test_reason_and_usage_reach_the_caller(seen: Observations, kind: str) -> None:
    told, tokens = seen["told"][kind], len(SAID[kind].encode())
    assert told["finish_reason"] == "stop"
    assert told["token_usage"] == {"input_tokens": tokens, "output_tokens": tokens, "total_tokens": 2 * tokens}


@pytest.mark.item(49)
def test_a_message_is_the_assistants(seen: Observations) -> None:
    assert seen["told"]["type"] == "ai"
