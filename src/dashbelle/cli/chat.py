"""`dashbelle chat`: a conversation with a running server in the terminal, or one question through a pipe."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Annotated, Any, TextIO

import typer

from dashbelle import settings
from dashbelle.cli.opened import FAILED, MISUSED, fail
from dashbelle.cli.remote import CannotAsk, ListedModel, Piece, RemoteServer, Turn, choose

KEY_VARIABLE = "DASHSCOPE_API_KEY"
NO_KEY = f"no API key: give --key or set {KEY_VARIABLE}; 'dashbelle keys create --name chat' makes one"
HELP = "Ctrl-C stops an answer, /reset forgets the conversation, /exit or Ctrl-D leaves."
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def chat(
    model: Annotated[str | None, typer.Option(help="Model to talk to [default: the server's first].")] = None,
    url: Annotated[str | None, typer.Option(help="The server [default: this machine, port 8080].")] = None,
    key: Annotated[str | None, typer.Option(help=f"API key [default: {KEY_VARIABLE}].")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
) -> None:
    """Talk to a running server. Through a pipe: one question in, the answer out.

    Examples:

        dashbelle chat

        dashbelle chat --model smollm2-135m-instruct --system "Answer in one sentence."

        echo "Where is Beijing?" | dashbelle chat
    """
    secret = key or os.environ.get(KEY_VARIABLE) or fail(NO_KEY, MISUSED)
    with asyncio.Runner() as runner:
        try:
            server = RemoteServer(url or default_url(), secret)
            try:
                chosen = choose(runner.run(server.models()), model)
                conversation = Conversation(server, chosen.name, system)
                if sys.stdin.isatty():
                    Terminal(runner, conversation).run(greeting(chosen, server.url))
                else:
                    runner.run(one_answer(conversation, question_of(sys.stdin.buffer.read()), sys.stdout))
            finally:
                runner.run(server.close())
        except settings.BadSetting as error:
            fail(str(error), MISUSED)
        except CannotAsk as error:
            fail(str(error), FAILED)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def default_url() -> str:
    """Where `dashbelle serve` with the same settings listens. Raises BadSetting."""
    return f"http://127.0.0.1:{settings.load().settings.port or 8080}"


def question_of(raw: bytes) -> str:
    """The question that came through a pipe. Ends the command if there is none."""
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        fail("the question on stdin is not UTF-8", MISUSED)
    return text or fail("no question on stdin", MISUSED)


def greeting(model: ListedModel, url: str) -> str:
    """The first lines of a conversation."""
    lines = [f"Talking to {model.name} at {url}."]
    if model.served_by != model.name:
        lines.append(f"The STAND-IN {model.served_by} answers for it.")
    return "\n".join([*lines, HELP])


@dataclass(frozen=True, slots=True)
class Pace:
    """What one answer took: its first and its last piece, and when they came, in seconds from the question."""

    first: Piece
    first_s: float
    last: Piece
    last_s: float

    def __str__(self) -> str:
        line = f"{self.last.input_tokens} tokens in, {self.last.output_tokens} out, first after {self.first_s:.2f} s"
        tokens, seconds = self.last.output_tokens - self.first.output_tokens, self.last_s - self.first_s
        return f"{line}, then {tokens / seconds:.1f} tokens/s" if tokens > 0 and seconds > 0 else line


class Conversation:
    """The turns so far with one model."""

    def __init__(
        self, server: RemoteServer, model: str, system: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._model = model
        self._clock = clock
        self._opening: list[Turn] = [{"role": "system", "content": system}] if system else []
        self.turns: list[Turn] = []

    def reset(self) -> None:
        """Forget everything but what the model was told before."""
        self.turns = []

    async def ask(self, question: str, show: Callable[[str], None]) -> Pace:
        """Put a question; `show` takes the answer's pieces. Raises CannotAsk; the question is forgotten then.

        A cancelled answer stays in the conversation as far as it was shown.
        """
        asked = [*self.turns, {"role": "user", "content": question}]
        began = self._clock()
        arrived: list[tuple[Piece, float]] = []
        try:
            async with aclosing(self._server.answer(self._model, [*self._opening, *asked])) as pieces:
                async for piece in pieces:
                    arrived.append((piece, self._clock() - began))
                    show(piece.text)
        except asyncio.CancelledError:
            self._keep(asked, arrived)
            raise
        self._keep(asked, arrived)
        if not arrived:
            raise CannotAsk("the server's answer has nothing in it")
        return Pace(*arrived[0], *arrived[-1])

    def _keep(self, asked: list[Turn], arrived: Sequence[tuple[Piece, float]]) -> None:
        answer = "".join(piece.text for piece, _ in arrived)
        if answer:  # the protocol allows no empty turn
            self.turns = [*asked, {"role": "assistant", "content": answer}]


async def one_answer(conversation: Conversation, question: str, out: TextIO) -> None:
    """Write the answer to one question, as it is made. Raises CannotAsk."""

    def show(text: str) -> None:
        out.write(text)
        out.flush()

    await conversation.ask(question, show)
    show("\n")


class Terminal:
    """Reads questions line by line and shows answers, until the person leaves."""

    def __init__(
        self, runner: asyncio.Runner, conversation: Conversation, *, read: Callable[[str], str] = input
    ) -> None:
        self._runner = runner
        self._conversation = conversation
        self._read = read

    def run(self, greeting: str) -> None:
        """Return when the person has left."""
        with suppress(ImportError):
            import readline  # noqa: F401, PLC0415 - gives `input` editing and a history; not on every platform
        typer.echo(greeting)
        while True:
            try:
                line = self._read("\n> ").strip()
            except KeyboardInterrupt:
                typer.echo("\nCtrl-D or /exit leaves.", nl=False)
                continue
            except EOFError:
                typer.echo("")
                return
            if line in {"/exit", "/quit"}:
                return
            self._obey(line)

    def _obey(self, line: str) -> None:
        if line == "/reset":
            self._conversation.reset()
            typer.echo("Forgotten.")
        elif line.startswith("/") and " " not in line:
            typer.echo(HELP)
        elif line:
            self._ask(line)

    def _ask(self, question: str) -> None:
        try:
            pace = self._runner.run(_until_ctrl_c(self._conversation.ask(question, _show)))
        except CannotAsk as error:
            typer.echo(f"dashbelle: {error}", err=True)
        else:
            typer.echo(f"\n[{pace or 'stopped'}]")


async def _until_ctrl_c(answer: Coroutine[Any, Any, Pace]) -> Pace | None:
    """The answer's pace, or None if it was stopped.

    The loop takes the signal: asyncio.Runner's own handler cancels a task in the middle of its work, and then, seen
    rarely, the client library went on all the same.
    """
    task = asyncio.ensure_future(answer)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _show(text: str) -> None:
    """Show a piece; what could steer the terminal is made visible instead."""
    typer.echo(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text), nl=False)
