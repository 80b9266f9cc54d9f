"""How a command speaks at the terminal, line by line. `Say` is what it is given to tell its progress with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO

Say = Callable[[str], None]


def say(line: str) -> None:
    """Raises nothing where nobody reads any more (`| head`, a closed terminal): the command goes on to its end."""
    _write(line, sys.stdout)


def say_or_end(line: str) -> None:
    """For what goes on until it is interrupted: where nobody reads any more, it is."""
    if not _write(line, sys.stdout):
        raise KeyboardInterrupt


def complain(error: Exception) -> None:
    """Raises nothing either."""
    _write(str(error), sys.stderr)


def _write(line: str, stream: TextIO) -> bool:
    """Whether it went out."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        # The line stays in the buffer: written once more at the end of the process, it would spoil the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
    return True
