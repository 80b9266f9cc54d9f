"""`Runtime`: one of the ways to run the stack, as the command line sees it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from deploy.fleet import Fleet
from deploy.say import Say


class Runtime(Protocol):
    """Every call raises `StackError`; its text says what to do."""

    def runs(self) -> bool:
        """Whether a stack was started this way, and not stopped."""

    def up(self, environment: Mapping[str, str], say: Say) -> None:
        """Start what does not run, and return when all is ready."""

    def down(self, say: Say) -> None:
        """Stop everything. The data stays."""

    def clean(self, say: Say) -> None:
        """Remove the data, too."""

    def list_processes(self, say: Say) -> bool:
        """Whether all of them work."""

    def follow_logs(self, name: str | None, say: Say) -> None:
        """Until it is interrupted."""

    def restart(self, name: str, say: Say) -> None: ...

    def fleet(self, say: Say) -> AbstractContextManager[Fleet]:
        """No other command changes the stack meanwhile."""

    def loadtest(self, environment: Mapping[str, str]) -> int:
        """Load the running stack. Returns the exit code of the load test."""
