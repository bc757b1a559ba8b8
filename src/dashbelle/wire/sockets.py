"""What the front does to a connection besides parsing: writes that are watched, and questions to the kernel."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from typing import Protocol

if sys.platform == "linux":
    import fcntl
    import termios


class Writable(Protocol):
    """A connection as a response sees it."""

    @property
    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`."""
        ...

    def close(self) -> None:
        """End the connection such that the answer still arrives."""
        ...


class Outlet(asyncio.Transport):
    """The transport that a response gets: the connection's own write and close instead of the socket's."""

    def __init__(self, connection: Writable) -> None:
        super().__init__()
        self._connection = connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`; nothing once the connection is closing."""
        if not self._connection.is_closing:
            self._connection.write(data)

    def close(self) -> None:
        """Close the connection its own way."""
        self._connection.close()

    def is_closing(self) -> bool:
        """Whether nothing more can be sent."""
        return self._connection.is_closing


class WriteWatch:
    """Tells a reader that takes nothing from one that is only slow."""

    def __init__(self, now: float) -> None:
        self._written_bytes = self._taken_bytes = 0
        self._taken_at = now

    def count(self, size: int) -> None:
        """`size` bytes were given to the transport."""
        self._written_bytes += size

    def stall(self, pending_bytes: int, now: float) -> float:
        """Seconds since the reader last took anything of the `pending_bytes` that it has not got yet."""
        taken = self._written_bytes - pending_bytes
        if not pending_bytes or taken != self._taken_bytes:
            self._taken_bytes, self._taken_at = taken, now
        return now - self._taken_at


def pending_bytes(transport: asyncio.Transport) -> int:
    """What was written and not yet taken by the peer's kernel; elsewhere than on Linux, not yet by ours.

    The transport's own count moves only when a third of the kernel's buffer (MBs) is free, too coarse for slow readers.
    """
    unacknowledged = bytearray(4)
    peer = transport.get_extra_info("socket")
    if peer is not None and sys.platform == "linux":
        fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, unacknowledged)
    return transport.get_write_buffer_size() + int.from_bytes(unacknowledged, sys.byteorder)


def end_when_unacknowledged(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel end a connection whose peer vanished without a word, where the platform can."""
    peer = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT") and peer is not None and peer.family in {socket.AF_INET, socket.AF_INET6}:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def has_hung_up(transport: asyncio.Transport) -> bool:
    """Whether the peer closed its side, as far as the platform can tell without reading (Linux can)."""
    peer = transport.get_extra_info("socket")
    if peer is None or not hasattr(select, "POLLRDHUP"):
        return False
    poll = select.poll()
    poll.register(peer.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
