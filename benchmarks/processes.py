"""Server processes to measure, and what Linux says of a process; knows no figure."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

DASHBELLE = str(Path(sys.executable).with_name("dashbelle"))
START_LIMIT_S = 300.0
STOP_LIMIT_S = 60.0
PAUSE_S = 0.005

_READY = re.compile(r"^Dashbelle \S+ is ready on http://[^:\s]+:(\d+)$", re.MULTILINE)
_KEY = re.compile(r"^API key: (sk-[0-9a-f]{64})$", re.MULTILINE)


class NoStart(Exception):
    """A server that ended, or was not ready in time; the text is what it said last."""


class Server:
    """One server process from its start to its end. What it prints goes to files beside its home."""

    def __init__(self, home: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.started_at = time.perf_counter()
        self._out, self._err = home.with_suffix(".out"), home.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=err, env={**outside(), "DASHBELLE_HOME": str(home), **(environment or {})}
            )
        self.pid = self._process.pid

    @classmethod
    def serve(cls, home: Path, *options: str) -> Self:
        """`dashbelle serve` with these options."""
        return cls(home, [DASHBELLE, "serve", *options])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ctrl-C, and SIGKILL if that does not help."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_LIMIT_S)
        finally:
            self._process.kill()

    def await_banner(self) -> tuple[int, str]:
        """Its port and, on a home's first start, the key (else empty), once it says so. Raises NoStart."""
        while (port := banner_port(self._out.read_text("utf-8"))) is None:
            self._wait_a_little()
        return port, banner_key(self._out.read_text("utf-8"))

    def await_ready(self, port: int) -> float:
        """Seconds from its start until /readyz says 200. Raises NoStart."""
        while not is_ready(port):
            self._wait_a_little()
        return time.perf_counter() - self.started_at

    def _wait_a_little(self) -> None:
        if self._process.poll() is not None or time.perf_counter() - self.started_at > START_LIMIT_S:
            raise NoStart(self._err.read_text("utf-8")[-2000:])
        time.sleep(PAUSE_S)


def banner_port(text: str) -> int | None:
    """The port in the start-up text; None while it has not been printed."""
    found = _READY.search(text)
    return int(found[1]) if found else None


def banner_key(text: str) -> str:
    """The key in the start-up text; empty when it shows none."""
    found = _KEY.search(text)
    return found[1] if found else ""


def is_ready(port: int) -> bool:
    """Whether /readyz says 200 on this port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def outside() -> dict[str, str]:
    """Our environment without the settings of a Dashbelle that may be in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DASHBELLE_")}


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used so far, all its threads together; its children do not count."""
    return cpu_ticks(Path(f"/proc/{pid}/stat").read_text("utf-8")) / os.sysconf("SC_CLK_TCK")


def cpu_ticks(stat: str) -> int:
    """User and system time in the text of /proc/PID/stat (proc(5): fields 14 and 15)."""
    user, system = stat.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident and proportional size (RSS, PSS) of a process, in MB (10^6 bytes)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8")
    return rollup_mb(rollup, "Rss"), rollup_mb(rollup, "Pss")


def rollup_mb(rollup: str, name: str) -> float:
    """One line of the text of /proc/PID/smaps_rollup, in MB. Raises ValueError when it is not there."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", rollup, re.MULTILINE)
    if found is None:
        raise ValueError(f"no {name} in smaps_rollup")
    return int(found[1]) * 1024 / 1e6
