"""The server calls nobody: no process of it connects to anything but this machine's own sockets."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from native_client import NativeClient

from running_server import RunningServer, StartServer

STRACE = shutil.which("strace")
LOCAL = re.compile(r'sa_family=AF_UNIX|inet_addr\("127\.|inet_pton\(AF_INET6, "::1"|sa_family=AF_UNSPEC')


@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_no_process_of_the_server_connects_to_another_machine(start_server: StartServer, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ("strace", "-f", "--seccomp-bpf", "-e", "trace=connect", "-o", str(trace))
    server = start_server(under=command)
    use(server)
    server.stop()
    connects = [line for line in trace.read_text().splitlines() if "connect(" in line]
    assert [line for line in connects if not LOCAL.search(line)] == []
    assert "+++ exited with 0 +++" in trace.read_text()


def use(server: RunningServer) -> None:
    """A call of each kind."""
    client = NativeClient(server)
    client.answer("Hello!", max_tokens=5)
    with client.stream("Hello!", max_tokens=5) as stream:
        stream.last()
