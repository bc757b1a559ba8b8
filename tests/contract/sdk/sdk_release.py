"""One release of the official Python SDK: runs scripts beside it, with nothing but a key and an address."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from running_server import RunningServer
from sdk_environment import VERSIONS, sdk_python

PATIENCE_S = 110
Observations = dict[str, Any]
HALVES = [
    *((version, "surface_1") for version in VERSIONS),
    *((version, "surface_1_aio") for version in VERSIONS[2:]),  # those before have no AioGeneration
]
"""Releases with the halves of their 1.x surface."""


class SdkRelease:
    """`home` is an empty folder in which the SDK looks for its files."""

    def __init__(self, version: str, home: Path) -> None:
        self.version = version
        self._home = home

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return sdk_python(self.version)

    def observe(self, script: str, server: RunningServer, *arguments: str) -> Observations:
        """What the cases of a script saw of this server."""
        finished = self.run(Path(__file__).with_name(f"cases_{script}.py"), server.url, server.key, *arguments)
        assert finished.returncode == 0, finished.stderr
        seen: Observations = json.loads(finished.stdout)
        return seen

    def run(self, script: Path, url: str, key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A script's end."""
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "DASHSCOPE_API_KEY": key,
            "DASHSCOPE_HTTP_BASE_URL": f"{url}/api/v1",
            "DASHSCOPE_WEBSOCKET_BASE_URL": f"{url.replace('http', 'ws', 1)}/api-ws/v1/inference",
            "NO_PROXY": "127.0.0.1",
        }
        command = [str(self.python), str(script), *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
