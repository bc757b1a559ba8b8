"""Where the figures are measured: the machine in words, and a folder on its disk; measures nothing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUIET_LOAD = 0.5
"""One-minute load average from which on figures are not worth keeping."""


@contextmanager
def scratch() -> Generator[Path, None, None]:
    """A folder for one figure, deleted after it.

    It lies beside the project, not under /tmp, which may be memory: the ledger's writes must reach a disk.
    """
    parent = ROOT / "build"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        yield Path(folder)


def describe() -> dict[str, str]:
    """CPU, cores, memory, Python, commit, load average of the last minute."""
    return {
        "cpu": cpu_model(_text("/proc/cpuinfo")) or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_kib(_text('/proc/meminfo')) / 2**20:.0f} GiB",
        "python": platform.python_version(),
        "commit": _git("describe", "--always", "--dirty", "--abbrev=10", "--exclude=*") or "unknown",
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def cpu_model(cpuinfo: str) -> str:
    """The model name in the text of /proc/cpuinfo; empty when it names none."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def memory_kib(meminfo: str) -> int:
    """All memory, by the text of /proc/meminfo; 0 when it does not say."""
    found = re.search(r"^MemTotal:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) if found else 0


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def _git(*arguments: str) -> str:
    finished = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return finished.stdout.strip()
