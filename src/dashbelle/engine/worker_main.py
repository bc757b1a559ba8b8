"""The engine process itself: token ids in, token ids out, one backend, nothing else; it dies with its gateway."""

from __future__ import annotations

import argparse
import os
import queue
import socket
import sys
import threading
import time
from typing import Protocol

from dashbelle.engine.frames import (
    LENGTH,
    MAX_FRAME_BYTES,
    Add,
    Broken,
    Cancel,
    Command,
    Event,
    Load,
    Piece,
    Ping,
    Pong,
    Ready,
    Step,
    decode_command,
    encode,
)
from dashbelle.errors import SchemaRefused


class Backend(Protocol):
    """Weights in memory that compute many answers together."""

    def add(self, command: Add) -> None:
        """Begin an answer. Raises SchemaRefused, and RuntimeError or ValueError when the library refuses the rest."""
        ...

    def cancel(self, call: int) -> None:
        """Give up an answer; unknown numbers are ignored."""
        ...

    def step(self) -> list[Piece]:
        """Compute once for all running answers and return what is new."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        ...


class Link:
    """The socket to the gateway, seen from the engine process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()

    def start(self) -> None:
        """Read commands in a thread of its own, so that a long step does not fill the socket."""
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, event: Event) -> None:
        """Tell the gateway; if it is gone, so are we."""
        try:
            self._connection.sendall(encode(event))
        except OSError:
            os._exit(0)

    def next(self, *, block: bool) -> Command | None:
        """The next command, or None when there is none and `block` is False."""
        try:
            return self._commands.get(block=block)
        except queue.Empty:
            return None

    def _read(self) -> None:
        try:
            self._read_on()
        finally:
            # The gateway closed its end, died or talks nonsense: nobody waits for what is still being computed.
            os._exit(0)

    def _read_on(self) -> None:
        stream = self._connection.makefile("rb")
        while len(head := stream.read(LENGTH.size)) == LENGTH.size:
            size = LENGTH.unpack(head)[0]
            if size > MAX_FRAME_BYTES:
                return
            self._commands.put(decode_command(stream.read(size)))


def serve(link: Link, backend: Backend) -> None:
    """Take commands and compute, for ever."""
    while True:
        command = link.next(block=not backend.busy)
        while command is not None:
            _obey(link, backend, command)
            command = link.next(block=False)
        if backend.busy:
            before = time.perf_counter()
            pieces = backend.step()
            link.send(Step(pieces, time.perf_counter() - before))


def _obey(link: Link, backend: Backend, command: Command) -> None:
    match command:
        case Add():
            try:
                backend.add(command)
            except SchemaRefused:
                link.send(Step([Piece(command.call, [], "refused")], 0.0))
            except (RuntimeError, ValueError) as error:
                print(f"call {command.call} refused: {error}", file=sys.stderr, flush=True)  # noqa: T201 - to the log
                link.send(Step([Piece(command.call, [], "failed")], 0.0))
        case Cancel(call):
            backend.cancel(call)
        case Ping():
            link.send(Pong())
        case Load():
            raise ValueError("weights are loaded once")


def warm_up(backend: Backend, prompt_tokens: int) -> float:
    """Compute one short answer to a prompt of this length; seconds of the longest step.

    The first steps of a process repack weights and allocate memory: no caller should pay for it.
    """
    longest = 0.0
    backend.add(
        Add(
            call=0,
            token_ids=[1] * prompt_tokens,
            eos_token_ids=[],
            max_tokens=4,
            greedy=True,
            temperature=0.0,
            top_p=1.0,
            top_k=0,
            seed=0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
        )
    )
    while backend.busy:
        before = time.perf_counter()
        backend.step()
        longest = max(longest, time.perf_counter() - before)
    return longest


def main() -> None:
    """Run as `python -m dashbelle.engine.worker_main --fd N` with a socket to the gateway at N."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    link = Link(socket.socket(fileno=parser.parse_args().fd))
    link.start()
    load = link.next(block=True)
    if not isinstance(load, Load):
        raise SystemExit("the first command must be load")
    # Importing openvino reports to Google Analytics and writes to ~/intel, unless this module cannot be had.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # that is how an import is made to fail
    from dashbelle.engine.openvino import OpenVinoBackend  # noqa: PLC0415 - only the chosen backend is imported

    start = time.perf_counter()
    try:
        backend = OpenVinoBackend(load)
        loaded = time.perf_counter()
        longest = warm_up(backend, min(64, load.batch_tokens))
    except (RuntimeError, OSError, ValueError) as error:
        link.send(Broken(str(error)))
        raise SystemExit(1) from None
    link.send(Ready(loaded - start, time.perf_counter() - loaded, longest))
    serve(link, backend)


if __name__ == "__main__":
    main()
