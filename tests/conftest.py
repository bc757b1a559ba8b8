"""Real servers for the tests that want them: two that tests share, and as many others as a test starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from running_server import RunningServer, StartServer, make_home

pytest_plugins = ["conformance"]


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled model that all servers share: only the first start of a session compiles it."""
    return tmp_path_factory.mktemp("engine-cache")


@pytest.fixture(scope="session")
def belle_server(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[RunningServer]:
    """A server as `dashbelle serve` gives it: the packaged model answers for BELLE. For tests that disturb nobody."""
    server = RunningServer(make_home(tmp_path_factory.mktemp("belle"), engine_cache)).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def echo_server(tmp_path_factory: pytest.TempPathFactory, engine_cache: Path) -> Iterator[RunningServer]:
    """A server whose only model says the prompt again."""
    server = RunningServer(make_home(tmp_path_factory.mktemp("echo"), engine_cache), "--model", "echo").start()
    yield server
    server.stop()


@pytest.fixture
def start_server(tmp_path: Path, engine_cache: Path) -> Iterator[StartServer]:
    """Servers of one test's own."""
    started: list[RunningServer] = []

    def start(
        *options: str,
        home: Path | None = None,
        key: str = "",
        settings: Mapping[str, str] | None = None,
        under: tuple[str, ...] = (),
    ) -> RunningServer:
        folder = home or make_home(tmp_path / f"server-{len(started)}", engine_cache)
        started.append(RunningServer(folder, *options, key=key, settings=settings, under=under))
        return started[-1].start()

    yield start
    for server in started:
        server.stop()
