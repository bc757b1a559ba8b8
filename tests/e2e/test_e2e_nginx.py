"""A stream through Debian's nginx, with the very settings of docs/operations.md."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from running_server import RunningServer, wait_until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
PATH = "/api/v1/services/aigc/text-generation/generation"
BODY = {
    "model": "smollm2-135m-instruct",
    "input": {"prompt": "Write a long story about the sea."},
    "parameters": {"max_tokens": 200, "seed": 3, "temperature": 0},
}


def documented_location(upstream: str) -> str:
    block = re.search(r"```nginx\n(.+?)```", PAGE.read_text(), flags=re.DOTALL)
    assert block
    assert "proxy_pass http://127.0.0.1:8080;" in block[1]
    return block[1].replace("http://127.0.0.1:8080", upstream)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def nginx(belle_server: RunningServer, tmp_path: Path) -> Iterator[str]:
    """The address of an nginx in front of the server."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    port = free_port()
    temporary = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};\n"
        f"{documented_location(belle_server.url)} }} }}"
    )
    process = subprocess.Popen([program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    try:
        wait_until(lambda: is_open(port), 20, "nginx")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def arrivals(url: str, key: str) -> tuple[list[float], str]:
    """When each frame came, and the whole stream."""
    times, text = [], ""
    headers = {"Authorization": f"Bearer {key}", "X-DashScope-SSE": "enable"}
    with httpx2.stream("POST", url + PATH, json=BODY, headers=headers, trust_env=False, timeout=60) as response:
        assert response.status_code == 200
        for piece in response.iter_text():
            times.append(time.monotonic())
            text += piece
    return times, text


def test_a_stream_passes_nginx_frame_by_frame(nginx: str, belle_server: RunningServer) -> None:
    direct, expected = arrivals(belle_server.url, belle_server.key)
    through, text = arrivals(nginx, belle_server.key)
    assert re.findall(r"^id:\d+$", text, flags=re.MULTILINE)[-1] == f"id:{text.count('event:result')}"
    without_ids = re.compile(r'"request_id":"[^"]+"')
    last, expected_last = text.strip().rpartition("\n")[2], expected.strip().rpartition("\n")[2]
    assert without_ids.sub("", last) == without_ids.sub("", expected_last)
    assert len(through) > 10, "the stream came in a lump"
    assert through[-1] - through[0] > (direct[-1] - direct[0]) / 5, "the stream came in a lump"


def test_a_client_that_leaves_nginx_is_noticed_behind_it(nginx: str, belle_server: RunningServer) -> None:
    headers = {"Authorization": f"Bearer {belle_server.key}", "X-DashScope-SSE": "enable"}
    body = {**BODY, "parameters": {"max_tokens": 4000, "repetition_penalty": 1.3}}
    with httpx2.stream("POST", nginx + PATH, json=body, headers=headers, trust_env=False, timeout=60) as response:
        next(response.iter_text())
        request_id = response.headers["x-request-id"]
    wait_until(lambda: request_id in [row["request_id"] for row in belle_server.usage()], 30, "row")
    ends = {row["request_id"]: row["end_reason"] for row in belle_server.usage()}
    assert ends[request_id] == "client_gone"
