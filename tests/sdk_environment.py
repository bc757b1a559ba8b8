"""Virtual environments with one release of a vendor's SDK each, made once under .venvs; two cannot share one.

A release is locked anew by: echo dashscope==1.25.0 | uv pip compile - --universal --python-version 3.11
--generate-hashes --only-binary :all: --no-emit-index-url --no-emit-find-links --no-header --no-annotate
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

VERSIONS = ("1.10.0", "1.14.1", "1.20.14", "1.25.0", "2.0.2")
"""BELLE's days, two between, the last of the 1.x line, and the one with a second surface."""

OPENAI_VERSIONS = ("1.109.1", "3.57.0")
"""The last of the 1.x line, and a recent one."""

LANGCHAIN_VERSION = "0.4.2"
"""The last of langchain-community; it calls dashscope 1.25.0."""

_TESTS = Path(__file__).parent
_FOLDER = _TESTS.parent / ".venvs"


def sdk_python(version: str) -> Path:
    """The interpreter beside `dashscope` of this release; the first call takes seconds and needs a package index."""
    return _python_beside("dashscope", version, _TESTS / "contract" / "sdk" / "requirements")


def openai_python(version: str) -> Path:
    """The interpreter beside `openai` of this release; otherwise as `sdk_python`."""
    return _python_beside("openai", version, _TESTS / "contract" / "openai" / "requirements")


def langchain_python() -> Path:
    """The interpreter beside `langchain_community`; otherwise as `sdk_python`."""
    return _python_beside("langchain-community", LANGCHAIN_VERSION, _TESTS / "contract" / "langchain" / "requirements")


def _python_beside(package: str, version: str, locks: Path) -> Path:
    requirements = locks / f"{version}.txt"
    folder = _FOLDER / f"{package}-{version}"
    python, stamp = folder / "bin" / "python", folder / "made-from"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    _FOLDER.mkdir(exist_ok=True)
    with (_FOLDER / f"{package}-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            _run(str(python), *_INSTALL, "-r", str(requirements))
            stamp.write_text(wanted)
    return python


_INSTALL = ("-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:")


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
