"""What one command at a time may do. A lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.errors import WrongState
from deploy.notes import run_dir


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """To change the stack. Raises `WrongState` where another command does."""
    with _lock(root, "lock", "Another command is changing this stack: wait for its end."):
        yield


@contextmanager
def only_load_test(root: Path) -> Iterator[None]:
    """To load it from containers, whose names are fixed; it may be changed meanwhile. Raises `WrongState`."""
    with _lock(root, "loadtest.lock", "Another load test runs, in containers of the same names: wait for its end."):
        yield


@contextmanager
def _lock(root: Path, name: str, refusal: str) -> Iterator[None]:
    folder = run_dir(root)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongState(refusal) from None
        yield
