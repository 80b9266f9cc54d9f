"""Why the stack does not run, in one tree.

StackError
 ├── BadSetting        a value of the environment, `.env` or pyproject.toml (exit code 2)
 ├── ProgramMissing    no usable Redis or Traefik on this machine
 ├── EngineMissing     no container engine answers, or it lacks what is needed
 ├── ComposeFailed     `docker compose` ended with an error
 ├── PortsTaken        somebody else listens on a port of the stack
 ├── WrongState        the command does not fit what runs now
 ├── SupervisorGone    supervisord does not answer, or is stopping
 ├── BalancerDeaf      Traefik does not take over a changed list of servers
 ├── ProcessFailed     a process ended, or was not ready in time
 ├── ServiceFailed     the same of a container
 └── RollStopped       a worker did not come back from its restart
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.ports import TakenPort


QUOTED_LINES = 15


class StackError(Exception):
    """Its text is what the person at the terminal reads."""

    exit_code = 1


class BadSetting(StackError):
    exit_code = 2

    def __init__(self, name: str, value: object, allowed: str) -> None:
        self.name, self.value, self.allowed = name, value, allowed
        super().__init__(f"{name} is {value!r}, allowed is: {allowed}")


class ProgramMissing(StackError):
    def __init__(self, what: str, install: str, rejected: Sequence[str] = ()) -> None:
        self.what = what
        super().__init__("\n".join([f"{what} was not found on this machine.", *rejected, install]))


class EngineMissing(StackError):
    pass


class ComposeFailed(StackError):
    def __init__(self, arguments: Sequence[str], output: str) -> None:
        self.output = output
        quoted = _quoted(output.splitlines()[-QUOTED_LINES:])
        super().__init__("\n".join([f"`docker compose {' '.join(arguments)}` failed. Its last words:", *quoted]))


class PortsTaken(StackError):
    def __init__(self, taken: Sequence[TakenPort], suggestion: int) -> None:
        self.taken = tuple(taken)
        lines = [str(port) for port in taken]
        lines.append(f"Stop what holds them, or choose other ports: CHAT_PORT={suggestion} (make up PORT={suggestion})")
        super().__init__("\n".join(lines))


class WrongState(StackError):
    pass


class SupervisorGone(StackError):
    pass


class BalancerDeaf(StackError):
    def __init__(self, path: Path, seconds: float, listed: Iterable[str]) -> None:
        servers = ", ".join(sorted(listed)) or "no server"
        super().__init__(
            f"Traefik does not go by {path} after {seconds:.0f} s, but balances over {servers}. Look at its log "
            "(make logs NAME=traefik), then repeat the command."
        )


class ProcessFailed(StackError):
    """`log_lines` are the last lines that the process wrote since it was started."""

    def __init__(self, name: str, reason: str, log: Path, log_lines: Sequence[str]) -> None:
        self.name, self.reason = name, reason
        super().__init__("\n".join([f"{name} {reason}. The end of {log}:", *_quoted(log_lines)]))


class ServiceFailed(StackError):
    """`log_lines` are the last lines that its container wrote."""

    def __init__(self, name: str, reason: str, log_lines: Sequence[str]) -> None:
        self.name, self.reason = name, reason
        super().__init__("\n".join([f"{name} is not ready: {reason}. The end of its log:", *_quoted(log_lines)]))


class RollStopped(StackError):
    def __init__(self, name: str, reason: StackError) -> None:
        self.name = name
        super().__init__(
            f"{reason}\n{name} is stopped, and gets no connections. The others run, and nothing more was done to them. "
            f"Mend it, then `make restart NAME={name}`, or `make rolling-restart`, which begins with it."
        )


def _quoted(lines: Sequence[str]) -> list[str]:
    return [f"  | {line}" for line in lines] or ["  | (nothing was written)"]
