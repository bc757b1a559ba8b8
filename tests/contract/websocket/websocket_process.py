"""A server under test: a real uvicorn process with the guarded WebSocket protocol on a free loopback port."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import httpx2

SERVER = Path(__file__).with_name("websocket_server.py")


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]

    def saw_leave(self, path: str, within_s: float) -> bool:
        """Whether the app under `path` learns in that time that its client has left."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if path in httpx2.get(f"http://127.0.0.1:{self.port}/left", trust_env=False).json():
                return True
            time.sleep(0.02)
        return False


@contextmanager
def serve(**limits: float) -> Iterator[Served]:
    """A server with these limits instead of the usual ones; at its end it must not have logged anything."""
    with TemporaryFile() as log:
        command = [sys.executable, str(SERVER), json.dumps(limits)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
            try:
                assert process.stdout is not None
                yield Served(int(process.stdout.readline()), process)
            finally:
                process.kill()
        log.seek(0)
        assert log.read().decode() == ""
