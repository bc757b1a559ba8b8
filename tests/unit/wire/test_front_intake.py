"""Counting one connection's input, with a clock of the test's own."""

from __future__ import annotations

import pytest

from dashbelle.errors import HeadersTooLarge, PayloadTooLarge
from dashbelle.wire.intake import Intake, Limits, Phase

LIMITS = Limits(head_s=8, body_stall_s=8, body_total_s=60, head_bytes=1000, max_body_bytes=5000)


def begun(limits: Limits = LIMITS) -> Intake:
    """An intake whose first head began at 0."""
    intake = Intake(limits, now=0)
    intake.hear(10, now=0)
    intake.begin()
    return intake


def in_body(limits: Limits = LIMITS) -> Intake:
    """An intake whose first body began at 0."""
    intake = begun(limits)
    intake.begin_body()
    return intake


def test_a_head_is_late_by_its_first_byte_however_much_follows() -> None:
    intake = begun()
    intake.hear(1, now=7.9)
    assert not intake.is_late(8)
    assert intake.is_late(8.1)


def test_blank_lines_start_the_clock_of_a_head() -> None:
    intake = Intake(LIMITS, now=0)
    assert not intake.is_late(100)
    intake.hear(2, now=100)
    assert intake.is_late(108.1)


def test_a_body_is_late_when_it_stalls() -> None:
    intake = in_body()
    intake.hear(1, now=5)
    assert not intake.is_late(13)
    assert intake.is_late(13.1)


def test_a_body_that_drips_is_late_when_its_whole_time_is_over() -> None:
    intake = in_body()
    for second in range(61):
        intake.hear(1, now=second)
    assert not intake.is_late(60)
    assert intake.is_late(60.1)


def test_nothing_is_late_between_messages() -> None:
    intake = in_body()
    intake.end()
    assert not intake.is_late(1000)


@pytest.mark.parametrize("intake", [begun(), in_body()], ids=["head", "body"])
def test_time_that_the_client_waits_for_us_does_not_count(intake: Intake) -> None:
    intake.stand_still(now=100)
    assert not intake.is_late(108)
    assert intake.is_late(108.1)


def test_only_a_connection_that_never_spoke_is_unused() -> None:
    intake = Intake(LIMITS, now=0)
    assert not intake.is_unused(75, idle_s=75)
    assert intake.is_unused(76, idle_s=75)
    intake.hear(1, now=76)
    assert not intake.is_unused(200, idle_s=75)


def test_chunks_cannot_pay_for_a_later_trailer() -> None:
    intake = in_body()
    for _ in range(100):
        intake.hear(6, now=0)
        intake.count_chunk()
        intake.count_body(1)
    intake.count_chunk()
    intake.hear(1001, now=0)
    with pytest.raises(HeadersTooLarge):
        intake.check_overhead()


def test_a_body_in_the_read_of_the_message_before_cannot_pay_for_extensions() -> None:
    intake = in_body()
    intake.hear(5000, now=0)
    intake.end()
    intake.begin()
    intake.begin_body()
    intake.count_chunk()
    intake.count_body(4000)
    intake.hear(1001, now=0)
    with pytest.raises(HeadersTooLarge):
        intake.check_overhead()


def test_the_data_of_a_body_is_no_overhead() -> None:
    intake = in_body()
    intake.hear(5000, now=0)
    intake.count_body(5000)
    intake.check_overhead()


def test_a_body_may_be_as_large_as_its_bound_and_no_larger() -> None:
    intake = in_body()
    intake.end_head(5000)
    intake.count_body(4999)
    intake.count_body(1)
    with pytest.raises(PayloadTooLarge):
        intake.count_body(1)
    with pytest.raises(PayloadTooLarge):
        intake.end_head(5001)


def test_without_a_bound_the_app_alone_judges_bodies() -> None:
    in_body(Limits()).end_head(10**15)


def test_each_body_has_its_own_bound() -> None:
    intake = in_body()
    for _ in range(3):
        intake.count_body(5000)
        intake.end()
        intake.begin()
        intake.begin_body()


def test_each_message_has_its_own_counts() -> None:
    intake = begun()
    for _ in range(5):
        intake.hear(900, now=0)
        intake.check_overhead()
        intake.count_field(b"x", b"y" * 900)
        intake.begin_body()
        intake.count_body(1)
        intake.end()
        assert intake.phase is Phase.IDLE
        intake.begin()
