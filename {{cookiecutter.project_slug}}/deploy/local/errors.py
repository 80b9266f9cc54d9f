"""Why the stack does not run, in one tree.

StackError
 ├── BadSetting        a value of the environment, `.env` or pyproject.toml (exit code 2)
 ├── ProgramMissing    no usable Redis or Traefik on this machine
 ├── PortsTaken        somebody else listens on a port of the stack
 ├── WrongState        the command does not fit what runs now
 ├── SupervisorGone    supervisord does not answer
 └── ProcessFailed     a process ended, or was not ready in time
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.ports import TakenPort


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


class ProcessFailed(StackError):
    """`log_lines` are the last lines that the process wrote since it was started."""

    def __init__(self, name: str, reason: str, log: Path, log_lines: Sequence[str]) -> None:
        self.name, self.reason = name, reason
        quoted = [f"  | {line}" for line in log_lines] or ["  | (nothing was written)"]
        super().__init__("\n".join([f"{name} {reason}. The end of {log}:", *quoted]))
