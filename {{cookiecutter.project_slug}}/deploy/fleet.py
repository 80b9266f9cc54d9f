"""`Fleet`: the chat workers of a running stack, as scaling and rolling restarts need them.

Each way to run the stack implements it; workers are known by their names, chat-1 and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Fleet(Protocol):
    """Every call raises `StackError`, and leaves the other workers alone."""

    @property
    def workers(self) -> list[str]:
        """Those that the stack consists of, running or not, in the order of their numbers."""

    def unready_reason(self, name: str) -> str | None:
        """What the worker itself says; None when it is ready."""

    def launch(self, name: str) -> None:
        """Start one more. Returns when it is ready; where that fails, nothing is left of it."""

    def restart(self, name: str) -> None:
        """Stop one, which drains, and start it again. Returns when it is ready."""

    def retire(self, name: str) -> None:
        """Stop the one with the highest number, which drains, for good."""

    def balance(self, names: Sequence[str]) -> None:
        """Have new connections go to just these workers. Returns when Traefik does so."""


def worker_names(count: int) -> list[str]:
    return [f"chat-{number}" for number in range(1, count + 1)]
