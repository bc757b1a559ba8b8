"""The schema: what the code expects, append-only where it must be, and never a newer one's."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine

import dashbelle
from dashbelle import migrations
from dashbelle.admission import keys
from dashbelle.metering import ledger
from dashbelle.store import Store, StoreUnavailable
from dashbelle.uploads import shelf


def open_and_close(path: Path) -> None:
    asyncio.run(Store.open(f"sqlite:///{path}").close())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "dashbelle.db"
    open_and_close(path)
    return path


@pytest.fixture
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The database without our program, but with its pragma against REPLACE."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA recursive_triggers = ON")
        connection.execute(
            "INSERT INTO reservations VALUES (1, 'r', 1, 'k', NULL, 'm', 'm', 1, 1, '2026-01-31', x'00')"
        )
        connection.execute("INSERT INTO settlements VALUES (2, 'r', 1, 1, 'stop', 0, NULL, '2026-01-31', x'00')")
        yield connection


def test_head_is_the_newest_of_the_versions() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_the_migrations_make_what_the_code_expects(path: Path) -> None:
    expected = MetaData()
    for metadata in (keys.metadata, ledger.metadata, shelf.metadata):
        for table in metadata.tables.values():
            table.to_metadata(expected)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), expected) == []
    engine.dispose()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE reservations SET input_tokens = 0",
        "UPDATE settlements SET input_tokens = 0",
        "DELETE FROM reservations",
        "DELETE FROM settlements",
        "REPLACE INTO reservations VALUES (1, 'r', 1, 'k', NULL, 'm', 'm', 0, 1, '2026-01-31', x'00')",
        "REPLACE INTO settlements VALUES (2, 'r', 0, 1, 'stop', 0, NULL, '2026-01-31', x'00')",
    ],
)
def test_the_ledger_refuses_any_change_of_a_line(raw: sqlite3.Connection, change: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(change)


def test_a_database_at_head_is_opened_without_alembic(path: Path) -> None:
    script = (
        "import asyncio, sys; from dashbelle.store import Store; "
        "asyncio.run(Store.open(sys.argv[1]).close()); sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, f"sqlite:///{path}"], check=True)


def test_a_newer_database_is_refused_in_one_line(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreUnavailable, match=r"newer than this program \(its schema is 9999, .*\)") as caught:
        open_and_close(path)
    assert "\n" not in str(caught.value)


def test_the_migrations_run_wherever_the_package_is_installed(tmp_path: Path) -> None:
    site = tmp_path / "100%s"
    site.mkdir()
    (site / "dashbelle").symlink_to(Path(dashbelle.__file__).parent)
    script = (
        "import asyncio, sys, dashbelle; from dashbelle.store import Store; "
        "asyncio.run(Store.open(sys.argv[1]).close()); print(dashbelle.__file__)"
    )
    command = [sys.executable, "-c", script, f"sqlite:///{site}/dashbelle.db"]
    ended = subprocess.run(command, env={"PYTHONPATH": str(site)}, check=True, capture_output=True, text=True)
    assert ended.stdout == f"{site}/dashbelle/__init__.py\n"
