"""`Terminal`: what a run says while it runs."""

from __future__ import annotations

import sys
import time

SILENCE_SECONDS = 5


class Terminal:
    def __init__(self) -> None:
        self._printed_at = 0.0

    def progress(self, text: str) -> None:
        """A line that the next one replaces; where that cannot be, one every five seconds."""
        if sys.stdout.isatty():
            print(f"\r\x1b[2K{text}", end="", flush=True)
        elif time.monotonic() > self._printed_at + SILENCE_SECONDS:
            self._printed_at = time.monotonic()
            print(text, flush=True)

    def say(self, text: str) -> None:
        print(f"\r\x1b[2K{text}" if sys.stdout.isatty() else text, flush=True)
