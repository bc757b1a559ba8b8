"""A server with one slot and little patience, over raw HTTP. Numbers are items of docs/conformance.md."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from raw_calls import STREAM, body, frames, post, refusal

from running_server import RunningServer, make_home, wait_until

STORY = "Human:Write a very long story about a lighthouse, with many chapters.\n\nAssistant:"
LONG = {"top_k": 1, "repetition_penalty": 1.0, "max_tokens": 3000}
"""With these the packaged model goes round in circles for half a minute."""
SETTINGS = {"slots": "1", "queue_places": "0", "request_timeout_s": "3"}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[RunningServer]:
    """One slot, no waiting line, three seconds for a call."""
    home = make_home(tmp_path_factory.mktemp("impatient"), engine_cache)
    server = RunningServer(home, settings=SETTINGS).start()
    yield server
    server.stop()


def story() -> dict[str, object]:
    return body(STORY, model="belle-llama-13b-2m-v1", parameters=LONG)


def test_79_a_call_over_its_time_is_a_timeout(impatient: RunningServer) -> None:
    told = refusal(post(impatient, story()))
    assert told[:2] == (408, "RequestTimeOut")


def test_79_a_stream_over_its_time_ends_with_the_timeout(impatient: RunningServer) -> None:
    reply = post(impatient, story(), STREAM)
    *before, last = frames(reply.content)
    assert reply.status_code == 200
    assert before
    assert last["code"] == "RequestTimeOut"
    assert b"event:error\n:HTTP_STATUS/408\n" in reply.content


def test_76_a_call_without_a_slot_or_a_place_is_429_in_json(impatient: RunningServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(post, impatient, story())
        wait_until(lambda: impatient.metric("dashbelle_slots_busy") == 1, 10, "running call")
        told = refusal(post(impatient, story()))
        assert running.result().status_code == 408
    assert told[:2] == (429, "Throttling.RateQuota")
