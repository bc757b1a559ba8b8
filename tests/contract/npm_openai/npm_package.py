"""The openai package of npm, installed once under .venvs from the lock file beside this; needs node and npm.

The lock is written anew by `npm install --package-lock-only --ignore-scripts`, less its `resolved` addresses: npm then
asks whatever registry it is set up for, and the hash says whether it got the same package.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("package.json", "package-lock.json")
VERSION: str = json.loads((HERE / "package.json").read_text())["dependencies"]["openai"]
OLDEST_NODE = 20

_VENVS = HERE.parents[2] / ".venvs"


def node() -> str:
    """The command; skips the test with the reason where it cannot be had."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(told.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {told} is older than {OLDEST_NODE}")
    return found


def installed() -> Path:
    """The folder with node_modules; the first call takes seconds and needs a registry."""
    folder = _VENVS / f"npm-openai-{VERSION}"
    stamp = folder / "made-from"
    wanted = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()
    _VENVS.mkdir(exist_ok=True)
    with (_VENVS / f"npm-openai-{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _install(folder)
            stamp.write_text(wanted)
    return folder


def _install(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(HERE / name, folder / name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert finished.returncode == 0, finished.stderr
