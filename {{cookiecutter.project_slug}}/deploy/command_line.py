"""The commands, whichever way the stack runs."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from deploy.errors import StackError
from deploy.loadtest import become_loadtest, is_elsewhere
from deploy.rolling import rolling_restart
from deploy.runtime import Runtime
from deploy.say import complain, say, say_or_end
from deploy.scaling import scale
from deploy.settings import PROJECT_ROOT, worker_count

INTERRUPTED = 128 + signal.SIGINT


def parse(program: str, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="The whole stack: Redis, Traefik, gateways and chat workers.",
        epilog="CHAT_RUNTIME (containers or local), CHAT_PORT and CHAT_WORKERS come from the environment or .env.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start what does not run yet, and return when everything is ready")
    commands.add_parser("down", help="stop everything; the data stays")
    commands.add_parser("clean", help="stop everything and remove the data")
    commands.add_parser("ps", help="list the processes and their health; exit code 1 unless all of them work")
    following = commands.add_parser("logs", help="follow the logs, until Ctrl-C")
    following.add_argument("name", nargs="?", help="of one process (default: of all)")
    restarting = commands.add_parser("restart", help="stop and start one process, and return when it is ready")
    restarting.add_argument("name", help="as `ps` lists it, chat-1 for instance")
    scaling = commands.add_parser("scale", help="change the number of chat workers; those that leave drain")
    scaling.add_argument("workers", help="how many there shall be")
    commands.add_parser("rolling-restart", help="restart the chat workers, one after the other; each drains")
    commands.add_parser("loadtest", help="load the running stack and judge it")
    return parser.parse_args(arguments)


def main(program: str, choose: Callable[[str], Runtime], arguments: list[str] | None = None) -> int:
    """Returns the exit code. `choose` gives the runtime for a command."""
    options = parse(program, arguments)
    return exit_code_of(lambda: _run(options, choose(options.command)))


def exit_code_of(command: Callable[[], int]) -> int:
    """What it returns, or that of its `StackError`, which is said. SIGTERM and SIGHUP interrupt it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return command()
    except StackError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(options: argparse.Namespace, runtime: Runtime) -> int:
    match options.command:
        case "up":
            runtime.up(os.environ, say)
        case "down":
            runtime.down(say)
        case "clean":
            runtime.clean(say)
        case "ps":
            return 0 if runtime.list_processes(say) else 1
        case "logs":
            with suppress(KeyboardInterrupt):
                runtime.follow_logs(options.name, say_or_end)
        case "restart":
            runtime.restart(options.name, say)
        case "scale":
            count = worker_count("WORKERS", options.workers)
            with runtime.fleet(say) as fleet:
                scale(fleet, count, say)
        case "rolling-restart":
            with runtime.fleet(say) as fleet:
                rolling_restart(fleet, say)
        case "loadtest":
            if is_elsewhere(PROJECT_ROOT, os.environ):
                become_loadtest(os.environ)
            return runtime.loadtest(os.environ)
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    # A terminal that is closed usually sends SIGHUP twice: the second one must not interrupt what cleans up.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
