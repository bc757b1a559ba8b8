"""Tokens, models, files and what is not offered, through the 1.x surface. Numbers are items of docs/conformance.md."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from questions import PROMPT
from sdk_release import Observations

from sdk_environment import VERSIONS

SINGULAR = VERSIONS[:2]
"""Their classes are Model, File, FineTune; there are no Deployments."""


@pytest.fixture(params=VERSIONS)
def seen(request: pytest.FixtureRequest, observe: Callable[[str, str], Observations]) -> Observations:
    """What each release saw."""
    return observe(request.param, "routes")


@pytest.mark.parametrize("version", VERSIONS[1:])  # 1.10.0 has no Tokenization
def test_88_a_prompt_has_as_many_tokens_as_ids_as_usage_says(
    observe: Callable[[str, str], Observations], version: str
) -> None:
    response = observe(version, "routes")["tokens"]
    ids, tokens = response["output"]["token_ids"], response["output"]["tokens"]
    assert len(ids) == len(tokens) == response["usage"]["input_tokens"] == len(PROMPT.encode())


@pytest.mark.parametrize("version", VERSIONS[2:])  # those before send their page size for a key
def test_89_models_are_listed(observe: Callable[[str, str], Observations], version: str) -> None:
    response = observe(version, "routes")["models"]
    assert [model["name"] for model in response["output"]["models"]] == ["echo"]


def test_89_a_known_model_is_shown_and_an_unknown_one_is_404(seen: Observations) -> None:
    assert (seen["known_model"]["status_code"], seen["known_model"]["output"]["name"]) == (200, "echo")
    assert seen["unknown_model"]["status_code"] == 404


def test_92_a_file_is_uploaded_listed_shown_and_deleted(seen: Observations) -> None:
    trip = seen["file_round_trip"]
    _, listed, shown, _ = trip["steps"]
    assert [step["status_code"] for step in trip["steps"]] == [200] * 4
    assert trip["file_id"] in [kept["file_id"] for kept in listed["output"]["files"]]
    assert (shown["output"]["file_id"], shown["output"]["name"]) == (trip["file_id"], "lines.jsonl")
    assert trip["afterwards"]["status_code"] == 400


@pytest.mark.parametrize("name", ["fine_tunes", "deployments"])
@pytest.mark.parametrize("version", VERSIONS)
def test_93_what_is_not_offered_is_a_response_that_can_be_printed(
    observe: Callable[[str, str], Observations], version: str, name: str
) -> None:
    if name == "deployments" and version in SINGULAR:
        pytest.skip("this release has no Deployments")
    response = observe(version, "routes")[name]
    assert (response["status_code"], response["code"]) == (404, "NotFound")
    assert "NotFound" in response["printed"]
