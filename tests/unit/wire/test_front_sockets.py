"""Watching what a reader takes, and what the front asks of the kernel."""

from __future__ import annotations

import asyncio
import socket

import pytest

from dashbelle.wire.sockets import WriteWatch, end_when_unacknowledged, has_hung_up


class TransportOf(asyncio.Transport):
    """A transport that has nothing but a socket, or not even that."""

    def __init__(self, peer: socket.socket | None) -> None:
        super().__init__({"socket": peer})


def test_a_reader_that_takes_nothing_stalls() -> None:
    watch = WriteWatch(now=0)
    watch.count(1000)
    assert watch.stall(400, now=1) == 0
    assert watch.stall(400, now=31) == 30


def test_a_slow_reader_does_not_stall() -> None:
    watch = WriteWatch(now=0)
    watch.count(1000)
    assert [watch.stall(1000 - taken, now=taken) for taken in range(1, 100)] == [0] * 99


def test_more_output_behind_a_stalled_reader_does_not_hide_it() -> None:
    watch = WriteWatch(now=0)
    watch.count(1000)
    watch.stall(400, now=1)
    watch.count(500)
    assert watch.stall(900, now=31) == 30


def test_a_connection_with_nothing_to_take_does_not_stall() -> None:
    watch = WriteWatch(now=0)
    watch.count(1000)
    assert watch.stall(0, now=1) == 0
    assert watch.stall(0, now=1000) == 0


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has no TCP_USER_TIMEOUT")
def test_the_kernel_ends_what_is_unacknowledged_for_long() -> None:
    with socket.socket() as peer:
        end_when_unacknowledged(TransportOf(peer), 30)
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this platform has no Unix sockets")
def test_a_unix_socket_has_no_such_timeout() -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        end_when_unacknowledged(TransportOf(peer), 30)


def test_a_transport_without_a_socket_is_asked_nothing() -> None:
    end_when_unacknowledged(TransportOf(None), 30)
    assert not has_hung_up(TransportOf(None))
