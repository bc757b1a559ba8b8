"""The 2.0 surface against a server without room. Numbers are items of docs/conformance.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from sdk_release import SdkRelease

from running_server import RunningServer, make_home, wait_until

PATH = "/api/v1/services/aigc/text-generation/generation"
STORY = "Human:Write a very long story about a lighthouse, with many chapters.\n\nAssistant:"
LONG = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": 3000}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[RunningServer]:
    """A server whose one slot is taken for good and that lets nobody wait."""
    home = make_home(tmp_path_factory.mktemp("full"), engine_cache)
    server = RunningServer(home, settings={"slots": "1", "queue_places": "0"}).start()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(occupy, server)
        wait_until(lambda: server.metric("dashbelle_slots_busy") == 1, 30, "running call")
        yield server
        server.kill()


def occupy(server: RunningServer) -> None:
    """A long call; it ends with the server."""
    body = {"model": "belle-llama-13b-2m-v1", "input": {"prompt": STORY}, "parameters": LONG}
    headers = {"Authorization": f"Bearer {server.key}"}
    try:
        httpx2.post(server.url + PATH, json=body, headers=headers, timeout=100, trust_env=False)
    except httpx2.HTTPError:
        assert server.exit_code is not None


@pytest.mark.client("dashscope 2.0.2 Client")
def test_77_a_429_is_tried_again_twice_and_then_told(full: RunningServer, tmp_path: Path) -> None:
    before, began = refused(full), time.monotonic()
    error = SdkRelease("2.0.2", tmp_path).observe("throttled", full, "belle-llama-13b-2m-v1")["throttled"]
    assert (error["raised"][0], error["status_code"]) == ("RateLimitError", 429)
    assert error["code"] == "Throttling.RateQuota"
    assert refused(full) - before == 3
    assert time.monotonic() - began < 30


def refused(server: RunningServer) -> int:
    """How many requests it has refused for want of room, by its log."""
    return server.stderr.count('"status": 429')
