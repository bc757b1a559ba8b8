"""`dashbelle doctor` through real sockets: it finds the proxy that spoils a stream, and blames no fair one."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from proxies import Sender, compress, gather, hold_back, lose_key, pass_on, proxy

from running_server import DASHBELLE, RunningServer, environment

SMALL = "smollm2-135m-instruct"


def examined(server: RunningServer, url: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and findings by check."""
    ended = subprocess.run(
        [DASHBELLE, "doctor", url, "--key", server.key, "--json", *options],
        env=environment(server.home, {}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.stderr == ""
    return ended.returncode, {found["check"]: found for found in json.loads(ended.stdout)["checks"]}


@pytest.mark.parametrize(("fixture", "model"), [("echo_server", "echo"), ("belle_server", SMALL)])
def test_a_server_without_a_proxy_is_well(request: pytest.FixtureRequest, fixture: str, model: str) -> None:
    server: RunningServer = request.getfixturevalue(fixture)
    code, found = examined(server, server.url, "--model", model)
    assert code == 0, found
    assert [found[check]["state"] for check in ("reach", "ready", "key", "stream")] == ["ok"] * 4, found


def test_a_fair_proxy_is_named_and_not_blamed(belle_server: RunningServer) -> None:
    with proxy(belle_server.url.removeprefix("http://"), pass_on) as url:
        code, found = examined(belle_server, url, "--model", SMALL)
    assert (code, found["stream"]["state"]) == (0, "ok"), found
    assert "through via: 1.1 fair-proxy" in found["versions"]["seen"]


@pytest.mark.parametrize(("fixture", "model"), [("echo_server", "echo"), ("belle_server", SMALL)])
@pytest.mark.parametrize(
    ("send", "seen"),
    [
        (hold_back, "nginx holds the stream back; it has a Content-Length"),
        (compress, "a hop that does not name itself holds the stream back; it is compressed (gzip)"),
    ],
)
def test_a_proxy_that_holds_a_stream_back_is_blamed(
    request: pytest.FixtureRequest, fixture: str, model: str, send: Sender, seen: str
) -> None:
    server: RunningServer = request.getfixturevalue(fixture)
    with proxy(server.url.removeprefix("http://"), send) as url:
        code, found = examined(server, url, "--model", model)
    assert (code, found["stream"]["state"]) == (1, "fail"), found
    assert seen in found["stream"]["seen"]


def test_a_proxy_that_gathers_events_is_blamed(belle_server: RunningServer) -> None:
    with proxy(belle_server.url.removeprefix("http://"), gather) as url:
        code, found = examined(belle_server, url, "--model", SMALL)
    assert (code, found["stream"]["state"]) == (1, "fail"), found
    assert "apache" in found["stream"]["seen"]
    assert "flushpackets" in found["stream"]["advice"]


def test_a_proxy_that_loses_the_key_is_suspected(echo_server: RunningServer) -> None:
    with proxy(echo_server.url.removeprefix("http://"), lose_key) as url:
        code, found = examined(echo_server, url)
    assert (code, found["key"]["state"]) == (1, "fail")
    assert "a proxy must let Authorization pass" in found["key"]["advice"]


def test_nobody_there_is_one_failure(echo_server: RunningServer) -> None:
    code, found = examined(echo_server, "http://127.0.0.1:1")
    assert code == 1
    assert [found[check]["state"] for check in found] == ["fail"] + ["skip"] * 6
