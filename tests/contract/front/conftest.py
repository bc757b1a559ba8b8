"""The two servers that most tests share: one with the usual deadlines, one with short ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from front_peer import GET_OK, ask
from front_process import serve


@pytest.fixture(scope="session")
def patient() -> Iterator[int]:
    """The port of a server with the usual deadlines, a bound on bodies and a quick sweep."""
    with serve(max_body_bytes=1_000_000, linger_s=0.2, sweep_s=0.1) as served:
        yield served.port


@pytest.fixture
def front(patient: int) -> Iterator[int]:
    """The patient server; whatever a test did to it, it must still serve."""
    yield patient
    assert ask(patient, GET_OK).json == {"ok": True}


@pytest.fixture(scope="session")
def hurried() -> Iterator[int]:
    """The port of a server whose deadlines are short, and that takes little input ahead."""
    limits = {"head_s": 0.5, "body_stall_s": 0.5, "body_total_s": 1.2, "write_stall_s": 0.8}
    with serve(**limits, linger_s=0.3, sweep_s=0.1, ahead_bytes=2000) as served:
        yield served.port
        assert ask(served.port, GET_OK).json == {"ok": True}
