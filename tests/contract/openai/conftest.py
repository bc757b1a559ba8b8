"""OpenAI's own SDK, each release in an environment of its own, and what its cases saw of a server."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import pytest
from openai_release import Observations, OpenAiRelease

from running_server import RunningServer
from sdk_environment import OPENAI_VERSIONS


class Observe(Protocol):
    """What a script saw of a server; each runs once per server."""

    def __call__(self, script: str, server: RunningServer) -> Observations:
        """The observations by case."""
        ...


@pytest.fixture(scope="session", params=OPENAI_VERSIONS)
def openai_release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OpenAiRelease:
    """One release after another."""
    return OpenAiRelease(request.param, tmp_path_factory.mktemp("openai"))


@pytest.fixture(scope="session")
def observe(openai_release: OpenAiRelease) -> Observe:
    """Runs scripts beside a release."""

    @cache
    def observe(script: str, server: RunningServer) -> Observations:
        return openai_release.observe(script, server)

    return observe


@pytest.fixture
def echo(observe: Observe, echo_server: RunningServer) -> Observations:
    """What the cases saw of a server whose model says the prompt again."""
    return observe("echo", echo_server)


@pytest.fixture
def model(observe: Observe, belle_server: RunningServer) -> Observations:
    """What the cases saw of a server with a real model."""
    return observe("real_model", belle_server)
