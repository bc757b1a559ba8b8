"""Fixtures of the meter's tests."""

from __future__ import annotations

import pytest
from books import Clock, MemoryBook, Told, metered
from structlog.testing import LogCapture

from dashbelle.metering.meter import Meter


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book() -> MemoryBook:
    return MemoryBook()


@pytest.fixture
def logged() -> LogCapture:
    return LogCapture()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def meter(book: MemoryBook, clock: Clock, logged: LogCapture, told: Told) -> Meter:
    return metered(book, clock, logged, told)
