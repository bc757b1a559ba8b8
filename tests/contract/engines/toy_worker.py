"""An engine process without weights: says its prompt's ids again, and misbehaves on request.

Run like dashbelle.engine.worker_main. Prompts that begin with a trick's number set it off. The empty schema is refused,
and every logprob is -0.5.
"""

from __future__ import annotations

import argparse
import os
import socket
import time

from dashbelle.engine.frames import Add, Broken, Piece, Ready
from dashbelle.engine.worker_main import Link, serve
from dashbelle.errors import SchemaRefused

DIE, HANG, REFUSE, FAIL, GARBLE, SLOW, COUNT = 901, 902, 903, 904, 905, 906, 907


class ToyBackend:
    """One id per answer and step."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers: dict[int, list[int]] = {}
        self._with_logprobs: dict[int, bool] = {}
        self.busy = False

    def add(self, command: Add) -> None:
        if command.json_schema == "":
            raise SchemaRefused
        self._with_logprobs[command.call] = command.logprobs
        match command.token_ids[0]:
            case 901:
                os._exit(7)
            case 902:
                time.sleep(3600)
            case 903:
                raise ValueError("no such temperature")
            case 905:
                self._connection.sendall(b"\x00\x00\x00\x02\xc1\xc1")
        self._answers[command.call] = list(command.token_ids[: command.max_tokens])
        self.busy = True

    def cancel(self, call: int) -> None:
        self._answers.pop(call, None)
        self.busy = bool(self._answers)

    def step(self) -> list[Piece]:
        pieces = []
        for call, ids in list(self._answers.items()):
            token = ids.pop(0)
            if token == SLOW:
                time.sleep(0.05)
                ids.append(SLOW)
            if token == COUNT:
                token = len(self._answers)
            if not ids:
                del self._answers[call]
            logprobs = [-0.5] if self._with_logprobs[call] else []
            pieces.append(Piece(call, [token], "failed" if token == FAIL else None if ids else "stop", logprobs))
        self.busy = bool(self._answers)
        return pieces


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--exit-at-once", action="store_true")
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    connection = socket.socket(fileno=arguments.fd)
    if arguments.exit_at_once:
        raise SystemExit(3)
    link = Link(connection)
    link.start()
    link.next(block=True)
    if arguments.broken:
        link.send(Broken("no such file"))
        raise SystemExit(1)
    print("toy engine starts", flush=True)
    link.send(Ready(0.0, 0.0, 0.001))
    serve(link, ToyBackend(connection))


if __name__ == "__main__":
    main()
