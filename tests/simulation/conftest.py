"""`pytest tests/simulation --seed N` plays one schedule again; `--schedules N` plays more or fewer than 10,000."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="play only the schedule of this seed, and print its events")
    parser.addoption("--schedules", type=int, default=10_000, help="how many schedules to play")


@pytest.fixture
def seeds(pytestconfig: pytest.Config) -> range:
    """Of the schedules to play."""
    seed: int | None = pytestconfig.getoption("seed", None)
    if seed is not None:
        return range(seed, seed + 1)
    return range(pytestconfig.getoption("schedules", 10_000))
