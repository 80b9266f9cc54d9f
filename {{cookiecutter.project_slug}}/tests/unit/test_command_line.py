"""How a command ends: its exit code, where it is interrupted, and where nobody reads what it says."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from deploy.command_line import INTERRUPTED, exit_code_of
from deploy.errors import BadSetting
from deploy.interrupts import undisturbed
from deploy.settings import PROJECT_ROOT

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PROGRAM = """
import sys
from deploy.command_line import main
from deploy.errors import StackError

class Talkative:
    def up(self, environment, say):
        try:
            say("Starting")
            if "CHAT_FAILS" in environment:
                raise StackError("chat-1 ended")
            say("Ready")
        except BaseException:
            say("Stopping what was started.")
            print("cleaned up", file=sys.stderr)
            raise
        print("done", file=sys.stderr)

    def follow_logs(self, name, say):
        while True:
            say("chat-1 | a line")

sys.exit(main("deploy", lambda command: Talkative(), sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def broken_pipe() -> int:
    """As behind `| head`, once that has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def closed_terminal() -> int:
    master, terminal = pty.openpty()
    os.close(master)
    return terminal


def run(command: str, output: int, **settings: str) -> tuple[int, str]:
    """The exit code, and what was written to stderr."""
    # Unbuffered, nothing would be left to write at the end of the process.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, command],
            cwd=PROJECT_ROOT,
            env=environment | settings,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(output)
    return done.returncode, done.stderr


@pytest.mark.parametrize("unread", [broken_pipe, closed_terminal])
def test_a_command_that_nobody_listens_to_goes_on_to_its_end(unread: Callable[[], int]) -> None:
    assert run("up", unread()) == (0, "done\n")


@pytest.mark.parametrize("unread", [broken_pipe, closed_terminal])
def test_a_command_that_nobody_listens_to_cleans_up_when_it_fails(unread: Callable[[], int]) -> None:
    assert run("up", unread(), CHAT_FAILS="yes") == (1, "cleaned up\nchat-1 ended\n")


@pytest.mark.parametrize("unread", [broken_pipe, closed_terminal])
def test_logs_end_where_nobody_reads_them(unread: Callable[[], int]) -> None:
    assert run("logs", unread()) == (0, "")


def test_an_error_is_said_and_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise BadSetting("CHAT_PORT", "x", "a number")

    assert exit_code_of(fail) == BadSetting.exit_code
    assert capsys.readouterr().err == "CHAT_PORT is 'x', allowed is: a number\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_once_so_that_a_second_one_breaks_no_cleanup(number: signal.Signals) -> None:
    """A terminal that is closed usually sends SIGHUP twice."""
    done = []

    def command() -> int:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)
            done.append("cleaned up")
        return 0

    assert exit_code_of(command) == INTERRUPTED
    assert done == ["cleaned up"]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_undisturbed_hears_no_signal(number: signal.Signals) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    signal.signal(number, interrupt)
    with undisturbed():
        signal.raise_signal(number)
    with pytest.raises(Interrupted):
        signal.raise_signal(number)
