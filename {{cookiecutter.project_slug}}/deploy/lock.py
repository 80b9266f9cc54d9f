"""One command at a time changes the stack. The lock ends with its process, however that ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.errors import WrongState
from deploy.notes import run_dir


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Raises `WrongState` where another command holds it."""
    folder = run_dir(root)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WrongState("Another command is changing this stack: wait for its end.") from None
        yield
