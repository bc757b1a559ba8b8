"""SIGTERM: nobody new comes in, idle connections end, what runs ends whole, what was queued behind does not begin."""

from __future__ import annotations

import signal
import time

import pytest
from front_peer import GET_OK, Peer, get
from front_process import serve


def test_a_drain_ends_running_responses_whole_and_takes_nothing_new() -> None:
    with serve(linger_s=0.2) as served, Peer(served.port) as running, Peer(served.port) as idle:
        assert idle.send(GET_OK).answer().status == 200
        running.send(get("/stream?n=16&gap=0.05") + get("/queued"))
        running.receive()
        begun = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert idle.is_closed_within(1)
        with pytest.raises(ConnectionError):
            Peer(served.port)
        (answer,) = running.rest()
        assert answer.is_whole
        assert answer.body == b"data:x\n\n" * 16
        assert served.process.wait(5) == 0
        assert time.monotonic() - begun < 4


def test_a_drain_is_not_held_up_by_a_client_that_only_lingers() -> None:
    with serve(linger_s=0.2) as served, Peer(served.port) as peer:
        assert peer.send(GET_OK).answer().status == 200
        peer.send(b"\x00")
        begun = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(5) == 0
        assert time.monotonic() - begun < 2
