"""The 1.x surface against the packaged model, and what every surface shows when its engine dies (item 71)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sdk_release import HALVES, Observations, SdkRelease

from running_server import RunningServer, make_home

INTERNAL_ERROR = "An internal error has occured, please try again later or contact service support."


@pytest.fixture(scope="session")
def real(sdk: SdkRelease, belle_server: RunningServer) -> Observations:
    """The 1.x surface against the packaged model."""
    return sdk.observe("real_model", belle_server)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[RunningServer]:
    """A server whose engine is killed again and again."""
    server = RunningServer(make_home(tmp_path_factory.mktemp("fragile"), engine_cache)).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def die(tmp_path_factory: pytest.TempPathFactory, fragile: RunningServer) -> Callable[[str], Observations]:
    """What the surfaces of a release saw of an engine's death; it dies once for each."""

    @cache
    def die(version: str) -> Observations:
        release = SdkRelease(version, tmp_path_factory.mktemp("sdk"))
        return release.observe("mid_stream", fragile, str(fragile.pid))

    return die


def test_48_belle_is_answered_for_with_text_and_usage(real: Observations) -> None:
    output, usage = real["whole"]["output"], real["whole"]["usage"]
    assert output["text"].strip()
    assert output["finish_reason"] in {"stop", "length"}
    assert output["choices"] is None
    assert usage["input_tokens"] > 0
    assert 0 < usage["output_tokens"] <= 30
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_49_messages_say_what_the_same_turns_in_belles_form_say(real: Observations) -> None:
    (choice,) = real["messages"]["output"]["choices"]
    assert choice["message"]["content"] == real["whole"]["output"]["text"]


@pytest.mark.parametrize("way", ["stream_by_default", "stream_cumulative"])
def test_63_a_stream_grows_to_the_text_of_the_whole_answer(real: Observations, way: str) -> None:
    said = [item["output"]["text"] for item in real[way]]
    assert all(after.startswith(before) for before, after in pairwise(said))
    assert said[-1] == real["whole"]["output"]["text"]


def test_64_an_incremental_stream_adds_up_to_it(real: Observations) -> None:
    said = [item["output"]["text"] for item in real["stream_incremental"]]
    assert "".join(said) == real["whole"]["output"]["text"]


@pytest.mark.parametrize("way", ["stream_by_default", "stream_incremental", "stream_cumulative"])
def test_65_the_last_item_counts_what_the_whole_answer_counts(real: Observations, way: str) -> None:
    assert real[way][-1]["usage"] == real["whole"]["usage"]


@pytest.mark.parametrize(("version", "surface"), HALVES, ids=map("-".join, HALVES))
def test_71_an_engine_that_dies_ends_a_stream_with_an_item_that_says_so(
    die: Callable[[str], Observations], version: str, surface: str
) -> None:
    *before, last = die(version)[surface]
    assert {item["status_code"] for item in before} == {200}
    assert (last["code"], last["message"], last["output"]) == ("InternalError", INTERNAL_ERROR, None)
    assert last["status_code"] == (500 if version in {"1.10.0", "1.14.1"} else 400)  # the SDKs' own guesses
    assert {item["request_id"] for item in before} == {last["request_id"]}


@pytest.mark.client("dashscope 2.0.2 Client")
def test_71_an_engine_that_dies_is_an_error_of_the_second_surface(die: Callable[[str], Observations]) -> None:
    error: dict[str, Any] = die("2.0.2")["surface_2"]
    assert error["raised"][0] == "InternalServerError"
    assert (error["code"], error["message"]) == ("InternalError", INTERNAL_ERROR)
    assert error["seen"] > 0
