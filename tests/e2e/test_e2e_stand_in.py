"""Who answers for BELLE while her weights are absent, and who is told."""

from __future__ import annotations

import pytest
from native_client import BELLE, NativeClient

from running_server import RunningServer, StartServer

STAND_IN = "smollm2-135m-instruct"


def test_an_answer_of_the_stand_in_says_so(belle_server: RunningServer) -> None:
    response = NativeClient(belle_server).ask("Hello!", max_tokens=1)
    assert response.headers["x-dashbelle-served-by"] == STAND_IN
    (row,) = [row for row in belle_server.usage() if row["request_id"] == response.json()["request_id"]]
    assert (row["model"], row["served_model"]) == (BELLE, STAND_IN)


def test_an_answer_under_its_own_name_does_not(belle_server: RunningServer) -> None:
    response = NativeClient(belle_server, model=STAND_IN).ask("Hello!", max_tokens=1)
    assert response.status_code == 200
    assert "x-dashbelle-served-by" not in response.headers


@pytest.mark.parametrize(
    ("options", "settings"),
    [pytest.param((), {"stand_in": "false"}, id="off"), pytest.param(("--host", "0.0.0.0"), {}, id="public")],  # noqa: S104
)
def test_without_a_stand_in_belle_is_not_found_and_the_way_out_is_told(
    start_server: StartServer, options: tuple[str, ...], settings: dict[str, str]
) -> None:
    server = start_server("--model", BELLE, "--model", "echo", *options, settings=settings)
    response = NativeClient(server).ask("Hello!")
    assert response.status_code == 404
    assert response.json()["code"] == "ModelNotFound"
    assert f"dashbelle models pull {BELLE}" in response.json()["message"]
    assert "x-dashbelle-served-by" not in response.headers
    assert "STAND-IN" not in server.stdout
    assert server.usage() == []
