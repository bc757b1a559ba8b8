"""Official SDKs, each release in an environment of its own, and what their cases saw of a server."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from sdk_release import HALVES, Observations, SdkRelease

from running_server import RunningServer
from sdk_environment import VERSIONS

Observe = Callable[[str, str], Observations]


@pytest.fixture(scope="session", params=VERSIONS)
def sdk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SdkRelease:
    """One release after another."""
    return SdkRelease(request.param, tmp_path_factory.mktemp("sdk"))


@pytest.fixture(scope="session")
def observe(tmp_path_factory: pytest.TempPathFactory, echo_server: RunningServer) -> Observe:
    """What a script saw of echo beside a release; each runs once."""

    @cache
    def observe(version: str, script: str) -> Observations:
        return SdkRelease(version, tmp_path_factory.mktemp("sdk")).observe(script, echo_server)

    return observe


@pytest.fixture(params=VERSIONS)
def sync(request: pytest.FixtureRequest, observe: Observe) -> Observations:
    """The 1.x surface of each release."""
    return observe(request.param, "surface_1")


@pytest.fixture(params=HALVES, ids="-".join)
def either(request: pytest.FixtureRequest, observe: Observe) -> Observations:
    """The same, and its asynchronous half in the releases that have one."""
    return observe(*request.param)
