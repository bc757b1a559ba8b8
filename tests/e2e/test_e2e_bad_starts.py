"""Starts that cannot work: one line on stderr that names the cause, an exit code, no traceback."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from running_server import DASHBELLE, RunningServer, environment


def start(home: Path, *options: str, **settings: str) -> str:
    """The one line that a start which fails says, without the program's name."""
    return start_in(environment(home, settings), *options)


def start_in(variables: Mapping[str, str], *options: str) -> str:
    """The same in this environment."""
    command = [DASHBELLE, "serve", "--port", "0", "--model", "echo", *options]
    finished = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode in {1, 2}
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("dashbelle: ")
    return line.removeprefix("dashbelle: ")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = start(tmp_path / "home", "--port", str(port))
    assert line.startswith(f"cannot listen on 127.0.0.1 port {port}: address already in use")
    assert line.endswith("; try --port 0 for a free one")


def test_an_unusable_home_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = start(tmp_path / "file" / "home")
    assert str(tmp_path / "file") in line
    assert "not a directory" in line.lower()


def test_an_unknown_setting_in_the_environment_is_named_with_its_neighbour(tmp_path: Path) -> None:
    line = start(tmp_path / "home", prot="9000")
    assert line == "unknown setting DASHBELLE_PROT in the environment; did you mean DASHBELLE_PORT?"


def test_an_unknown_setting_in_the_file_is_named_with_file_and_neighbour(tmp_path: Path) -> None:
    file = tmp_path / "dashbelle.toml"
    file.write_text("prot = 9000\n")
    assert start(tmp_path) == f"unknown setting 'prot' in {file}; did you mean port?"


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dashbelle.toml"
    file.write_text("port 9000\n")
    assert start(tmp_path).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("options", "settings", "said"),
    [
        pytest.param((), {"slots": "0"}, "setting slots='0' (environment): ", id="environment"),
        pytest.param((), {"slots": "many"}, "setting slots='many' (environment): ", id="no number"),
        pytest.param((), {"models": "echo"}, "environment: ", id="no JSON list"),
        pytest.param(("--port", "70000"), {}, "setting port=70000 (flag): ", id="flag"),
        pytest.param(("--log-level", "loud"), {}, "setting log_level='loud' (flag): ", id="no choice"),
        pytest.param(("--host", "nowhere.invalid"), {}, "cannot listen on nowhere.invalid port 0: ", id="host"),
    ],
)
def test_a_bad_value_is_named_with_where_it_came_from(
    tmp_path: Path, options: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    assert start(tmp_path / "home", *options, **settings).startswith(said)


def test_an_unknown_model_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    line = start(tmp_path / "home", "--model", "ecko")
    assert line.startswith("unknown model 'ecko'; there are: belle-llama-13b-2m-v1, smollm2-135m-instruct, echo")


def test_a_second_server_on_one_home_is_refused_and_the_first_serves_on(echo_server: RunningServer) -> None:
    line = start(echo_server.home)
    assert line.startswith(f"another dashbelle is running with the data folder {echo_server.home}; ")
    assert echo_server.ready_status() == 200


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "dashbelle.db").write_bytes(b"no database at all" * 100)
    assert start(tmp_path).startswith(f"cannot open the database {tmp_path / 'dashbelle.db'}: ")
