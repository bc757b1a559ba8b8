"""`dashbelle chat` under a real terminal and a real pipe, against a real server."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from running_server import DASHBELLE, RunningServer, environment, wait_until

PATIENCE_S = 60.0
CTRL_C, CTRL_D, BACKSPACE = "\x03", "\x04", "\x7f"
SLOW = "Write a very long story about a lighthouse, with many chapters."


class TypedChat:
    """`dashbelle chat` in a terminal of its own."""

    def __init__(self, server: RunningServer, *options: str) -> None:
        self._master, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [DASHBELLE, "chat", "--url", server.url, "--key", server.key, *options],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**environment(server.home, {}), "LC_ALL": "C.UTF-8", "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=_control_terminal,  # noqa: PLW1509 - Ctrl-C is a signal only on a controlling terminal
        )
        os.close(terminal)
        self.shown = ""
        self._seen = 0

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, text: str) -> str:
        """What was shown up to `text`, which must come behind what was expected before."""
        deadline = time.monotonic() + PATIENCE_S
        while (place := self.shown.find(text, self._seen)) < 0:
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                self.shown += self._read()
        before, self._seen = self.shown[self._seen : place], place + len(text)
        return before

    def exit_code(self) -> int:
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def _read(self) -> str:
        raw = b""
        while True:
            try:
                raw += os.read(self._master, 65536)
                return raw.decode()
            except UnicodeDecodeError:
                continue
            except OSError as error:  # the other side has closed
                raise AssertionError(f"it ended: {self.shown!r}") from error


def _control_terminal() -> None:
    import fcntl  # noqa: PLC0415 - runs in the child
    import termios  # noqa: PLC0415 - runs in the child

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


OpenChat = Callable[..., TypedChat]


@pytest.fixture
def opened() -> Iterator[OpenChat]:
    chats: list[TypedChat] = []

    def open_chat(server: RunningServer, *options: str) -> TypedChat:
        chats.append(TypedChat(server, *options))
        chats[-1].expect("> ")
        return chats[-1]

    yield open_chat
    for chat in chats:
        chat.close()


def test_chinese_is_typed_edited_and_answered(echo_server: RunningServer, opened: OpenChat) -> None:
    chat = opened(echo_server)
    chat.type("你好吗吗" + BACKSPACE + "\n")
    assert "Human:你好吗\r\n" in chat.expect("tokens in")
    chat.expect("> ")
    chat.type("再见\n")
    answer = chat.expect("tokens in")
    assert "Human:你好吗" in answer
    assert "Human:再见" in answer
    chat.expect("> ")
    chat.type("/reset\n")
    chat.expect("> ")
    chat.type("新\n")
    assert "你好吗" not in chat.expect("tokens in")
    chat.expect("> ")
    chat.type(CTRL_D)
    assert chat.exit_code() == 0


def test_the_pace_is_shown_behind_each_answer(echo_server: RunningServer, opened: OpenChat) -> None:
    chat = opened(echo_server)
    chat.type("abc\n")
    chat.expect("[21 tokens in, 21 out, first after ")
    chat.expect("tokens/s]")
    chat.expect("> ")
    chat.type("/exit\n")
    assert chat.exit_code() == 0


def test_ctrl_c_stops_the_answer_at_once_and_the_conversation_goes_on(
    belle_server: RunningServer, opened: OpenChat
) -> None:
    chat = opened(belle_server)
    assert "STAND-IN smollm2-135m-instruct answers" in chat.shown
    for _ in range(5):  # the model may have said all that it wants to before the keys arrive
        chat.type(SLOW + "\n")
        chat.expect("lighthouse, with many chapters.\r\n")
        chat.expect(" ")
        chat.type(CTRL_C)
        if "[stopped]" in chat.expect("\n> "):
            break
    else:
        pytest.fail(f"never stopped: {chat.shown!r}")
    # Typed and shown first: Python's readline overlooks a signal between its prompt and its first look at the keys.
    chat.type("half a question")
    chat.expect("half a question")
    chat.type(CTRL_C)
    chat.expect("Ctrl-D or /exit leaves.")
    chat.expect("> ")
    chat.type(CTRL_D)
    assert chat.exit_code() == 0
    wait_until(lambda: belle_server.usage()[-1]["end_reason"] == "client_gone", PATIENCE_S, "settlement")


def piped(server: RunningServer, question: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DASHBELLE, "chat", "--url", server.url, *options],
        input=question,
        env={**environment(server.home, {}), "DASHSCOPE_API_KEY": server.key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_piped_question_is_answered_on_stdout_alone(echo_server: RunningServer) -> None:
    ended = piped(echo_server, "你好\n", "--system", "简短。")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "Human:简短。\n你好\n\nAssistant:\n"


@pytest.mark.parametrize(
    ("question", "options", "code", "line"),
    [
        ("", (), 2, "no question on stdin"),
        ("hi", ("--key", "sk-wrong"), 1, "refuses the API key"),
        ("hi", ("--model", "nix"), 1, "the server has no model 'nix'; it has: echo"),
        ("hi", ("--url", "http://127.0.0.1:1"), 1, "start one: dashbelle serve"),
    ],
)
def test_what_goes_wrong_is_one_line(
    echo_server: RunningServer, question: str, options: tuple[str, ...], code: int, line: str
) -> None:
    ended = piped(echo_server, question, *options)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("dashbelle: ")
    assert line in ended.stderr
    assert ended.stderr.count("\n") == 1
