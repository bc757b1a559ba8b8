"""A Unix socket before Postgres that can lose the answer to a COMMIT, as a network can."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from threading import Thread

SOCKET = ".s.PGSQL.5432"


class CuttingProxy:
    """Passes everything on. Once `armed`, it lets one COMMIT through and breaks the connection before its answer."""

    def __init__(self, folder: Path, server: Path) -> None:
        self.armed = False
        self._server = str(server / SOCKET)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen()
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                Thread(target=self._pass_questions, args=(client, server), daemon=True).start()
                Thread(target=self._pass_answers, args=(server, client), daemon=True).start()

    def _pass_questions(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server:
            while question := client.recv(65536):
                if self.armed and b"COMMIT" in question:
                    self.armed = False
                    client.shutdown(socket.SHUT_WR)  # before Postgres can have answered
                server.sendall(question)

    @staticmethod
    def _pass_answers(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while answer := server.recv(65536):
                client.sendall(answer)
