"""Keys made and revoked by another process while the server runs."""

from __future__ import annotations

import pytest
from native_client import NativeClient

from running_server import RunningServer, wait_until

REVOKED_S = 1.0
"""Promised: that long after `keys revoke` has returned, nobody calls with the key any more."""


@pytest.fixture
def client(echo_server: RunningServer, request: pytest.FixtureRequest) -> NativeClient:
    """A caller with a key that was made a moment ago; it is named after the test."""
    key = echo_server.command("keys", "create", "--name", request.node.name[:60]).strip()
    return NativeClient(echo_server, model="echo", key=key)


def test_a_key_made_while_the_server_runs_works_at_once(client: NativeClient) -> None:
    assert client.ask("hello").status_code == 200


def test_a_revoked_key_is_refused_within_a_second(
    echo_server: RunningServer, client: NativeClient, request: pytest.FixtureRequest
) -> None:
    assert client.ask("hello").status_code == 200
    echo_server.command("keys", "revoke", request.node.name[:60])
    wait_until(lambda: client.ask("hello").status_code == 401, REVOKED_S, "refusal")
    assert client.ask("hello").json()["code"] == "InvalidApiKey"


def test_other_keys_outlive_a_revocation(echo_server: RunningServer) -> None:
    echo_server.command("keys", "create", "--name", "other")
    echo_server.command("keys", "revoke", "other")
    assert NativeClient(echo_server, model="echo").ask("hello").status_code == 200
