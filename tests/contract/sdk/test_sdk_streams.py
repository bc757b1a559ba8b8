"""Streams through the 1.x surface. Numbers are items of docs/protocol.md's checklist."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from questions import PROMPT, RENDERED
from sdk_release import Observations

WAYS = ["stream_by_default", "stream_incremental", "stream_cumulative"]


def texts(items: list[dict[str, Any]]) -> list[str]:
    """What each item of a stream says."""
    assert {item["status_code"] for item in items} == {200}
    return [item["output"]["text"] for item in items]


@pytest.mark.parametrize("way", ["stream_by_default", "stream_cumulative"])
def test_63_each_text_begins_with_the_one_before(either: Observations, way: str) -> None:
    said = texts(either[way])
    assert len(said) > 50
    assert all(after.startswith(before) and len(after) > len(before) for before, after in pairwise(said))
    assert said[-1] == PROMPT


def test_64_incremental_texts_add_up(either: Observations) -> None:
    said = texts(either["stream_incremental"])
    assert len(said) > 50
    assert "".join(said) == PROMPT


@pytest.mark.parametrize("way", WAYS)
def test_65_every_item_has_usage_that_grows(either: Observations, way: str) -> None:
    usages = [item["usage"] for item in either[way]]
    tokens = len(PROMPT.encode())
    assert {usage["input_tokens"] for usage in usages} == {tokens}
    assert all(before["output_tokens"] <= after["output_tokens"] for before, after in pairwise(usages))
    assert all(usage["total_tokens"] == tokens + usage["output_tokens"] for usage in usages)
    assert usages[-1]["output_tokens"] == tokens


@pytest.mark.parametrize("way", WAYS)
def test_62_only_the_last_item_has_a_reason(either: Observations, way: str) -> None:
    *before, last = (item["output"]["finish_reason"] for item in either[way])
    assert set(before) == {"null"}
    assert last == "stop"


@pytest.mark.parametrize("way", WAYS)
def test_60_one_request_id_goes_through_a_stream(either: Observations, way: str) -> None:
    assert len({item["request_id"] for item in either[way]}) == 1


def test_66_twenty_streams_at_a_time_do_not_mix(either: Observations) -> None:
    assert texts(either["twenty_streams"]) == [f"{number} {PROMPT}" for number in range(20)]


def test_64_streamed_messages_add_up(sync: Observations) -> None:
    choices = [item["output"]["choices"] for item in sync["stream_of_messages"]]
    assert "".join(choice["message"]["content"] for (choice,) in choices) == RENDERED
    assert {choice["message"]["role"] for (choice,) in choices} == {"assistant"}


def test_45_two_streamed_answers_are_told_apart_by_their_index(sync: Observations) -> None:
    choices = [choice for item in sync["stream_of_two"] for choice in item["output"]["choices"]]
    last = {choice["index"]: choice["message"]["content"] for choice in choices}
    assert last == {0: RENDERED, 1: RENDERED}


def test_70_a_bad_parameter_of_a_stream_is_one_item_with_the_code(either: Observations) -> None:
    (item,) = either["bad_parameter_streamed"]
    assert (item["status_code"], item["code"]) == (400, "InvalidParameter")
    assert item["message"] == "Temperature should be in [0.0, 2.0)"
