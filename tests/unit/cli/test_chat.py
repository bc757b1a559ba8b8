"""`dashbelle chat`: turns that are kept, answers that are stopped, and one line for what goes wrong."""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from fake_server import KEY, URL, FakeServer, error, event
from typer import Typer
from typer.testing import CliRunner

from dashbelle.cli import chat
from dashbelle.cli.chat import NO_KEY, Conversation, Terminal, greeting, one_answer, question_of
from dashbelle.cli.remote import CannotAsk, ListedModel, RemoteServer

app = Typer()
app.command()(chat.chat)


def ticking() -> Callable[[], float]:
    """A clock that is half a second later at every look."""
    ticks = iter(range(1000))
    return lambda: next(ticks) / 2


def conversation(transport: FakeServer, system: str | None = None) -> Conversation:
    return Conversation(RemoteServer(URL, KEY, transport=transport), "echo", system, ticking())


def turns_of(body: dict[str, object]) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in body["input"]["messages"]]  # type: ignore[index]


async def test_each_question_is_asked_with_the_turns_before_it() -> None:
    server = FakeServer()
    talk = conversation(server, "Be brief.")
    for question in ("一", "二"):
        await talk.ask(question, lambda _: None)
    system = ("system", "Be brief.")
    assert [turns_of(body) for body in server.bodies] == [
        [system, ("user", "一")],
        [system, ("user", "一"), ("assistant", "你好"), ("user", "二")],
    ]


async def test_a_reset_forgets_the_turns_and_not_the_system_message() -> None:
    server = FakeServer()
    talk = conversation(server, "Be brief.")
    await talk.ask("一", lambda _: None)
    talk.reset()
    await talk.ask("二", lambda _: None)
    assert turns_of(server.bodies[1]) == [("system", "Be brief."), ("user", "二")]


async def test_the_pace_counts_tokens_behind_the_first_piece() -> None:
    pace = await conversation(FakeServer(event("a", tokens=2), event("b", tokens=5), event("", tokens=6))).ask(
        "hi", lambda _: None
    )
    assert str(pace) == "8 tokens in, 6 out, first after 0.50 s, then 4.0 tokens/s"
    alone = await conversation(FakeServer(event("a", finish="stop", tokens=1))).ask("hi", lambda _: None)
    assert str(alone) == "8 tokens in, 1 out, first after 0.50 s"


class Forgetful(FakeServer):
    """Fails from its second call on."""

    def _reply(self, request: httpx2.Request) -> httpx2.Response:
        if self.bodies and request.url.path.endswith("generation"):
            return error(400, "InvalidParameter", "Too long.")
        return super()._reply(request)


async def test_a_question_that_fails_is_forgotten_and_the_turns_before_it_are_kept() -> None:
    talk = conversation(Forgetful())
    await talk.ask("一", lambda _: None)
    before = list(talk.turns)
    with pytest.raises(CannotAsk, match="Too long"):
        await talk.ask("二", lambda _: None)
    assert talk.turns == before


async def test_a_stopped_answer_is_kept_as_far_as_it_was_shown() -> None:
    talk = conversation(FakeServer(event("one "), event("two "), event("three")))

    def stop_at_two(text: str) -> None:
        if text == "two ":
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await talk.ask("hi", stop_at_two)
    assert talk.turns == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "one two "}]


async def test_an_answer_without_anything_in_it_is_no_turn() -> None:
    talk = conversation(FakeServer(event("", finish="stop", tokens=0)))
    await talk.ask("hi", lambda _: None)
    assert talk.turns == []
    with pytest.raises(CannotAsk, match="nothing in it"):
        await conversation(FakeServer(b":\n")).ask("hi", lambda _: None)


class Script:
    """Types these lines, an exception among them being a key; then leaves."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self._lines = iter(lines)

    def __call__(self, _prompt: str) -> str:
        line = next(self._lines, EOFError)
        if isinstance(line, str):
            return line
        raise line


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def typed(runner: asyncio.Runner, server: FakeServer, *lines: str | type[BaseException]) -> Conversation:
    talk = conversation(server)
    Terminal(runner, talk, read=Script(*lines)).run("Welcome.")
    return talk


def test_a_conversation_shows_answers_and_their_pace(
    runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = typed(runner, FakeServer(), "  一  ", "", "二", "/exit", "never asked")
    assert [turn["content"] for turn in talk.turns] == ["一", "你好", "二", "你好"]
    shown = capsys.readouterr().out
    assert shown.startswith("Welcome.\n你好\n[8 tokens in, 2 out, first after")
    assert shown.count("tokens/s]") == 2


def test_commands_are_obeyed_and_not_asked(runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]) -> None:
    server = FakeServer()
    talk = typed(runner, server, "一", "/reset", "/nonsense", "/etc is what?")
    assert [turn["content"] for turn in talk.turns] == ["/etc is what?", "你好"]
    shown = capsys.readouterr().out
    assert "Forgotten." in shown
    assert shown.count("/reset forgets") == 1


def test_ctrl_c_at_the_prompt_does_not_leave(runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]) -> None:
    talk = typed(runner, FakeServer(), KeyboardInterrupt, "一")
    assert len(talk.turns) == 2
    assert "Ctrl-D or /exit leaves." in capsys.readouterr().out


class Stopped(FakeServer):
    """Ctrl-C comes while it answers, the first time."""

    def _reply(self, request: httpx2.Request) -> httpx2.Response:
        reply = super()._reply(request)
        if len(self.bodies) == 1:
            signal.raise_signal(signal.SIGINT)
            return httpx2.Response(200, content=_silence())
        return reply


async def _silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def test_ctrl_c_stops_one_answer_and_keeps_the_conversation(
    runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = typed(runner, Stopped(), "一", "二")
    assert [turn["content"] for turn in talk.turns] == ["二", "你好"]
    assert "[stopped]" in capsys.readouterr().out


def test_an_error_is_one_line_and_the_conversation_goes_on(
    runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(runner, Forgetful(), "一", "二")
    assert capsys.readouterr().err == "dashbelle: Too long. (InvalidParameter)\n"


def test_an_answer_cannot_steer_the_terminal(runner: asyncio.Runner, capsys: pytest.CaptureFixture[str]) -> None:
    typed(runner, FakeServer(event("a\x1b[2J\x9b\r\x07\tb\u3000好\n", finish="stop")), "hi")
    assert "a\ufffd[2J\ufffd\ufffd\ufffd\tb\u3000好\n" in capsys.readouterr().out


def test_a_stand_in_is_named_in_the_greeting() -> None:
    assert "STAND-IN small answers" in greeting(ListedModel("belle", "small"), URL)
    assert "STAND-IN" not in greeting(ListedModel("small", "small"), URL)


async def test_a_piped_answer_is_the_answer_alone() -> None:
    out = io.StringIO()
    await one_answer(conversation(FakeServer(event("a\x1bb", finish="stop"))), "hi", out)
    assert out.getvalue() == "a\x1bb\n"


def test_a_piped_question_is_stripped() -> None:
    assert question_of(" 你好\n两行\n".encode()) == "你好\n两行"


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "line"),
    [
        ([], b"hi", 2, NO_KEY),
        (["--key", "sk-x", "--url", "ftp://x"], b"hi", 1, "'ftp://x' is no URL such as http://127.0.0.1:8080"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line(tmp_path: Path, arguments: list[str], stdin: bytes, code: int, line: str) -> None:
    environment = {"DASHBELLE_HOME": str(tmp_path), "DASHSCOPE_API_KEY": ""}
    ended = CliRunner().invoke(app, arguments, input=stdin, env=environment, catch_exceptions=False)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (code, "", f"dashbelle: {line}\n")
