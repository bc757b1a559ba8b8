"""`dashbelle keys`: the key alone on stdout, one line for what goes wrong, and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command import Run, runner_of

from dashbelle.cli import keys

run_keys = runner_of(keys.app)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_keys(tmp_path / "home")


def test_create_prints_the_key_alone_and_a_hint_beside_it(run: Run) -> None:
    made = run("create", "--name", "laptop")
    assert made.exit_code == 0
    assert made.stdout.startswith("sk-")
    assert len(made.stdout.split()) == 1
    assert "shown this once" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_a_taken_name_is_one_line_and_exit_code_1(run: Run) -> None:
    run("create", "--name", "laptop")
    again = run("create", "--name", "laptop")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr == "dashbelle: a key named 'laptop' exists; revoke it first or choose another name\n"


def test_a_bad_name_is_one_line_and_exit_code_2(run: Run) -> None:
    bad = run("create", "--name", "a b")
    assert (bad.exit_code, bad.stdout) == (2, "")
    assert bad.stderr.startswith("dashbelle: key name 'a b': use 1 to 64 letters")
    assert bad.stderr.count("\n") == 1


def test_an_empty_list_says_so_in_words_and_not_in_json(run: Run) -> None:
    assert run("list").stdout == "No keys yet. Make one: dashbelle keys create --name NAME\n"
    assert run("list", "--json").stdout == ""


def test_the_list_shows_names_beginnings_and_states_in_80_columns(run: Run) -> None:
    long_name = "n" * 64
    secret = run("create", "--name", long_name).stdout.strip()
    run("create", "--name", "phone")
    run("revoke", "phone")
    listed = run("list").stdout
    assert max(map(len, listed.splitlines())) <= 80
    assert "".join(line.split()[0] for line in listed.splitlines() if "nnn" in line) == long_name
    assert secret[:6] in listed
    assert secret[6:] not in listed
    assert "live" in listed
    assert "revoked 20" in listed


def test_the_list_as_json_has_one_object_per_key(run: Run) -> None:
    secret = run("create", "--name", "laptop").stdout.strip()
    run("revoke", "laptop")
    run("create", "--name", "phone")
    old, new = map(json.loads, run("list", "--json").stdout.splitlines())
    assert list(old) == ["name", "prefix", "created_at", "revoked_at"]
    assert (old["name"], old["prefix"]) == ("laptop", secret[:6])
    assert old["revoked_at"].endswith("Z")
    assert (new["name"], new["revoked_at"]) == ("phone", None)


def test_revoke_prints_nothing_on_stdout(run: Run) -> None:
    run("create", "--name", "laptop")
    revoked = run("revoke", "laptop")
    assert (revoked.exit_code, revoked.stdout, revoked.stderr) == (0, "", "Key 'laptop' revoked.\n")


def test_an_unknown_name_is_one_line_and_exit_code_1(run: Run) -> None:
    unknown = run("revoke", "nobody")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr == "dashbelle: no live key is named 'nobody'\n"


@pytest.mark.parametrize("command", ["create", "list", "revoke"])
def test_every_help_has_examples(run: Run, command: str) -> None:
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert f"dashbelle keys {command}" in shown.stdout


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda home: (home / "pepper").write_bytes(b"short"), "has 5 bytes instead of 32"),
        (lambda home: (home / "dashbelle.db").write_bytes(b"no database " * 100), "file is not a database"),
        (lambda home: (home / "dashbelle.db").mkdir(), "Is a directory"),
    ],
)
def test_a_damaged_home_is_one_line_and_exit_code_1(
    run: Run, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    damage(home)
    failed = run("list")
    assert failed.exit_code == 1
    assert message in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_bad_setting_is_one_line_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dashbelle.toml").write_text("prot = 1\n")
    failed = run("list")
    assert failed.exit_code == 2
    assert "did you mean port?" in failed.stderr
    assert failed.stderr.count("\n") == 1
