"""The command line: `python -m deploy.local up | down | ps | logs [NAME] | restart NAME`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import FrameType

from deploy.local import down, logs, records, status, up
from deploy.local.errors import StackError, WrongState
from deploy.local.layout import PROJECT_ROOT, read_layout

INTERRUPTED = 128 + signal.SIGINT


def say(line: str) -> None:
    print(line, flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description="The whole stack as processes of this machine: Redis, Traefik, a gateway and the chat workers.",
        epilog="CHAT_PORT (first of the ports) and CHAT_WORKERS (how many) come from the environment or .env.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("up", help="start what does not run yet, and return when everything is ready")
    commands.add_parser("down", help="stop everything; the data stays")
    commands.add_parser("ps", help="list the processes and their health; exit code 1 unless all of them work")
    following = commands.add_parser("logs", help="follow the logs, until Ctrl-C")
    following.add_argument("name", nargs="?", help="of one process (default: of all)")
    restarting = commands.add_parser("restart", help="stop and start one process, and return when it is ready")
    restarting.add_argument("name", help="as `ps` lists it, chat-1 for instance")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        if options.command == "up":
            up.up(read_layout(PROJECT_ROOT, os.environ), say)
        elif options.command == "down":
            down.down(PROJECT_ROOT, say)
        elif options.command == "restart":
            up.restart(PROJECT_ROOT, options.name, say)
        elif options.command == "logs":
            _follow_logs(options.name)
        else:
            return _list_processes()
    except StackError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 0 if options.command == "logs" else INTERRUPTED
    except BrokenPipeError:  # `logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _list_processes() -> int:
    found = status.rows(PROJECT_ROOT)
    if not found:
        say("Nothing runs.")
        return 1
    say(status.table(found))
    if any(row.state == "orphan" for row in found):
        say("\nsupervisord is gone, nothing restarts these. `make down` stops them; `make up` starts afresh.")
    return 0 if all(row.works for row in found) else 1


def _follow_logs(name: str | None) -> None:
    record = records.read_stack(PROJECT_ROOT)
    layout = record.layout if record else read_layout(PROJECT_ROOT, os.environ)
    names = [process.name for process in layout.processes]
    if name and name not in names:
        raise WrongState(f"There is no process {name!r}, only: {' '.join(names)}")
    logs.follow([layout.log_path(each) for each in ([name] if name else names)], say)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
