"""A `dashbelle serve` process for tests: started with a home of its own, watched, stopped; it makes no calls."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import httpx2

DASHBELLE = str(Path(sys.executable).with_name("dashbelle"))
START_S = 90.0
STOP_S = 60.0
"""Far longer than either takes on an idle machine."""

_READY = re.compile(r"^Dashbelle \S+ is ready on (http://\S+)$", re.MULTILINE)
_KEY = re.compile(r"^API key: (sk-[0-9a-f]{64})$", re.MULTILINE)


class RunningServer:
    """One server process. `url` and `pid` are its own; `key` is the one that its first start printed, or was given."""

    url: str
    pid: int

    def __init__(
        self,
        home: Path,
        *options: str,
        key: str = "",
        settings: Mapping[str, str] | None = None,
        under: tuple[str, ...] = (),
    ) -> None:
        """`settings` are DASHBELLE_* variables by their names without the prefix; `under` is a command to run it by."""
        self.home = home
        self.key = key
        self._environment = environment(home, settings or {})
        self._command = [*under, DASHBELLE, "serve", "--port", "0", *options]
        self._traced = bool(under)
        self._out, self._err = home.with_suffix(".out"), home.with_suffix(".err")

    def start(self) -> Self:
        """Return once the banner is out and /readyz says 200."""
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=err, env=self._environment)
        try:
            self._await_banner()
        except AssertionError:
            self.kill()
            raise
        return self

    def _await_banner(self) -> None:
        wait_until(lambda: _READY.search(self.stdout) or self._has_failed(), START_S, "banner")
        ready, key = _READY.search(self.stdout), _KEY.search(self.stdout)
        assert ready, f"no start, exit code {self.exit_code}: {self.stderr}"
        self.url = ready[1]
        self.key = key[1] if key else self.key
        self.pid = children(self._process.pid)[0] if self._traced else self._process.pid
        assert self.ready_status() == 200

    def _has_failed(self) -> bool:
        return self.exit_code is not None or "engine.broken" in self.stderr

    @property
    def stdout(self) -> str:
        """All that it has printed."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """All that it has logged."""
        return self._err.read_text()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def ready_status(self) -> int:
        """What /readyz answers."""
        return httpx2.get(f"{self.url}/readyz", trust_env=False, timeout=30).status_code

    def metric(self, name: str, **labels: str) -> float:
        """A figure of /metrics: the sum of its series that have these labels."""
        page = httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=30).text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in page.splitlines() if re.match(rf"{name}[{{ ]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in wanted))

    def usage(self) -> list[dict[str, Any]]:
        """What `dashbelle usage --json` prints, oldest end first."""
        return [json.loads(line) for line in self.command("usage", "--json").splitlines()]

    def worker_pids(self) -> list[int]:
        """Its engine processes."""
        return [pid for pid in children(self.pid) if b"dashbelle.engine.worker_main" in _read(pid, "cmdline")]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(STOP_S)

    def stop(self) -> None:
        """Ctrl-C, which must end it well. Nothing, if it has ended already."""
        if self.exit_code is not None:
            return
        self.signal(signal.SIGINT)
        try:
            assert self.wait() == 0, self.stderr
        finally:
            self._process.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self.wait()

    def command(self, *arguments: str) -> str:
        """The output of another dashbelle command on the same home."""
        finished = subprocess.run(
            [DASHBELLE, *arguments], env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout


class StartServer(Protocol):
    """Starts a server that is stopped when the test is over; the arguments are RunningServer's."""

    def __call__(
        self,
        *options: str,
        home: Path | None = None,
        key: str = "",
        settings: Mapping[str, str] | None = None,
        under: tuple[str, ...] = (),
    ) -> RunningServer:
        """With a fresh home unless one is given."""
        ...


def make_home(folder: Path, engine_cache: Path) -> Path:
    """An empty home in `folder`, but for the compiled model."""
    home = folder / "home"
    home.mkdir(parents=True)
    (home / "cache").symlink_to(engine_cache)
    return home


def environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, with these DASHBELLE_* variables and no others."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("DASHBELLE_")}
    inside = {f"DASHBELLE_{name.upper()}": value for name, value in settings.items()}
    return {**outside, "DASHBELLE_HOME": str(home), **inside}


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return once `condition` holds; fail when it did not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The living children of a process."""
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    return [child for child in pids if _parent_and_state(child)[0] == pid]


def is_alive(pid: int) -> bool:
    """Whether there is such a process and it is more than an entry that waits to be collected."""
    return _parent_and_state(pid)[1] not in {"", "Z", "X"}


def _parent_and_state(pid: int) -> tuple[int, str]:
    state, parent, *_ = _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split() or ("", "-1")
    return int(parent), state


def _read(pid: int, name: str) -> bytes:
    """A file of /proc; empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
