"""Follows the logs of all processes, or of one, across their rotation."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from deploy.say import Say

POLL_SECONDS = 0.2
FIRST_LINES = 10


class FollowedLog:
    """One log file, which may not be there yet, and is replaced when it is rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._unfinished = b""

    def last_lines(self, count: int) -> list[str]:
        """Called first: what follows begins after them."""
        return self.new_lines()[-count:]

    def new_lines(self) -> list[str]:
        """Whole lines only."""
        chunk = self._file.read() if self._file else b""
        if self._was_replaced():
            if self._file:
                self._file.close()
            self._file = self._path.open("rb")
            chunk += self._file.read()
        *whole, self._unfinished = (self._unfinished + chunk).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def _was_replaced(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        here = os.fstat(self._file.fileno())
        return there.st_ino != here.st_ino or there.st_size < self._file.tell()


def follow(paths: Sequence[Path], say: Say) -> None:
    """Until it is interrupted."""
    width = max(len(path.stem) for path in paths)
    logs = [(path.stem.ljust(width), FollowedLog(path)) for path in paths]
    for name, log in logs:
        for line in log.last_lines(FIRST_LINES):
            say(f"{name} | {line}")
    while True:
        for name, log in logs:
            for line in log.new_lines():
                say(f"{name} | {line}")
        time.sleep(POLL_SECONDS)
