"""A server under test: a real uvicorn process with the guarded front on a free loopback port."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

SERVER = Path(__file__).with_name("front_server.py")


@dataclass(frozen=True)
class Served:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def serve(**limits: float) -> Iterator[Served]:
    """A server with these limits instead of the usual ones; at its end it must not have logged a traceback."""
    command = [sys.executable, str(SERVER), json.dumps(limits)]
    with TemporaryFile() as log:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
            try:
                assert process.stdout is not None
                yield Served(int(process.stdout.readline()), process)
            finally:
                process.kill()
        log.seek(0)
        text = log.read().decode()
        assert "Traceback" not in text, text
