"""One release of OpenAI's Python SDK: runs scripts beside it, with nothing but a key and an address."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from running_server import RunningServer
from sdk_environment import openai_python

PATIENCE_S = 110
Observations = dict[str, Any]
_HERE = Path(__file__).parent


class OpenAiRelease:
    """`home` is an empty folder in which the SDK looks for its files."""

    def __init__(self, version: str, home: Path) -> None:
        self.version = version
        self._home = home

    def observe(self, script: str, server: RunningServer, *arguments: str) -> Observations:
        """What the cases of a script saw of this server."""
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_HERE.parent / "sdk"),
            "HOME": str(self._home),
            "OPENAI_API_KEY": server.key,
            "OPENAI_BASE_URL": f"{server.url}/compatible-mode/v1",
            "NO_PROXY": "127.0.0.1",
        }
        command = [str(openai_python(self.version)), str(_HERE / f"cases_{script}.py"), *arguments]
        finished = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert finished.returncode == 0, finished.stderr
        seen: Observations = json.loads(finished.stdout)
        return seen
