"""A real Postgres for the tests: its own data folder, a Unix socket, every commit on disk."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

STARTS_WITHIN_S = 60
SERVERS_USER = "postgres"
"""Whom Debian's package makes. Postgres refuses to run as root."""


class PostgresMissing(Exception):
    """Why there can be no server here."""


class PostgresServer:
    """A server with as many empty databases as are asked for; close it."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._as_user = _as_user()
        self._numbers = count(1)
        self._port = 5432  # only a part of the socket's name
        self.folder = Path(tempfile.mkdtemp(prefix="dashbelle-pg-"))  # short: a socket's path has 107 bytes
        if self._as_user:
            shutil.chown(self.folder, SERVERS_USER)
        self._initialize()
        self._process = self._start()
        self._wait()

    def create_database(self) -> str:
        """The URL of a new database."""
        name = f"test_{next(self._numbers)}"
        self._psql("postgres", f"CREATE DATABASE {name}")
        return f"postgresql://{SERVERS_USER}@/{name}?host={self.folder}&port={self._port}"

    def restart(self) -> None:
        """Break every connection, as an upgrade of the server does."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._process = self._start()
        self._wait()

    def close(self) -> None:
        """Stop the server and remove its data."""
        self._process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data any more
        self._process.wait()
        shutil.rmtree(self.folder)

    def _program(self, name: str) -> str:
        return str(self._programs / name)

    def _initialize(self) -> None:
        command = [
            self._program("initdb"),
            "-D",
            str(self.folder / "data"),
            "-U",
            SERVERS_USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        subprocess.run([*self._as_user, *command], check=True, capture_output=True)

    def _start(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "port": str(self._port),
            "fsync": "on",
            "shared_buffers": "32MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [self._program("postgres"), "-D", str(self.folder / "data"), *options]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*self._as_user, *command], stdout=log, stderr=log)

    def _wait(self) -> None:
        until = time.monotonic() + STARTS_WITHIN_S
        command = [self._program("pg_isready"), "-q", "-h", str(self.folder), "-p", str(self._port)]
        while subprocess.run(command, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.05)

    def _psql(self, database: str, statement: str) -> None:
        command = [self._program("psql"), "-q", "-h", str(self.folder), "-p", str(self._port), "-U", SERVERS_USER]
        subprocess.run([*command, "-d", database, "-c", statement], check=True, capture_output=True)


def _programs() -> Path:
    """The folder of the newest server's programs. Raises PostgresMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        raise PostgresMissing("no Postgres server is installed (Debian: apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


def _as_user() -> list[str]:
    """What a command of the server's begins with. Raises PostgresMissing."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam(SERVERS_USER)
    except KeyError:
        raise PostgresMissing(f"Postgres does not run as root, and there is no user {SERVERS_USER}") from None
    # The server ends with the tests, however they end.
    return ["setpriv", f"--reuid={SERVERS_USER}", f"--regid={SERVERS_USER}", "--clear-groups", "--pdeathsig=INT"]
