"""The openai package of npm against /compatible-mode/v1. Item 94 of docs/conformance.md."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from npm_package import HERE, VERSION, installed, node

from running_server import RunningServer

pytestmark = pytest.mark.client(f"openai (npm) {VERSION}")

PROMPT = "你好,世界 😀🌊"
RENDERED = f"Human:{PROMPT}\n\nAssistant:"
TOKENS = len(RENDERED.encode())
Observations = dict[str, Any]


@pytest.fixture(scope="module")
def seen(echo_server: RunningServer) -> Observations:
    """What every case saw."""
    command = [node(), str(HERE / "cases_chat.cjs"), str(installed())]
    arguments = [f"{echo_server.url}/compatible-mode/v1", echo_server.key, PROMPT]
    variables = {"PATH": os.environ["PATH"], "NO_PROXY": "127.0.0.1"}
    finished = subprocess.run(
        [*command, *arguments], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    value: Observations = json.loads(finished.stdout)
    return value


def test_94_a_call_is_answered_with_a_message_and_usage(seen: Observations) -> None:
    (choice,) = seen["whole"]["choices"]
    assert (choice["message"]["role"], choice["message"]["content"]) == ("assistant", RENDERED)
    assert choice["finish_reason"] == "stop"
    assert seen["whole"]["usage"]["prompt_tokens"] == seen["whole"]["usage"]["completion_tokens"] == TOKENS
    assert seen["whole"]["usage"]["total_tokens"] == 2 * TOKENS


def test_94_the_pieces_of_a_stream_add_up_and_the_last_has_the_usage(seen: Observations) -> None:
    *pieces, last = seen["pieces"]
    said = [choice["delta"].get("content") or "" for piece in pieces for choice in piece["choices"]]
    assert len(said) > 10
    assert "".join(said) == RENDERED
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 2 * TOKENS)


def test_94_the_packages_own_helper_follows_a_stream_to_its_end(seen: Observations) -> None:
    assert seen["streamedToTheEnd"] == RENDERED


def test_94_models_are_listed(seen: Observations) -> None:
    assert seen["models"] == ["echo"]


@pytest.mark.parametrize(
    ("case", "raised", "status", "code"),
    [
        ("wrongKey", "AuthenticationError", 401, "invalid_api_key"),
        ("unknownModel", "NotFoundError", 404, "model_not_found"),
        ("badParameter", "BadRequestError", 400, "invalid_parameter_error"),
    ],
)
def test_94_an_error_is_of_the_packages_own_class(
    seen: Observations, case: str, raised: str, status: int, code: str
) -> None:
    error = seen[case]
    assert (error["raised"], error["status"], error["code"]) == (raised, status, code)
    assert error["isAPIError"]
