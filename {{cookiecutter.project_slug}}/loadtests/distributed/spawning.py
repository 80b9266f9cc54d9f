"""Generators as processes of this machine. They end with the one that started them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import psutil

from ..settings import PROJECT_ROOT

END_SECONDS = 10


class Spawned:
    def __init__(self, count: int, master: str) -> None:
        """In sessions of their own: Ctrl-C is for the master, which tells them."""
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "loadtests.distributed", "worker", master],
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            for _ in range(count)
        ]

    def by_name(self) -> dict[str, psutil.Process]:
        found = {}
        for number, one in enumerate(self._processes, 1):
            with suppress(psutil.Error):
                found[f"load generator {number}"] = psutil.Process(one.pid)
        return found

    def deaths(self) -> list[str]:
        """A sentence for each that has ended."""
        return [
            f"a process of the load generator (pid {one.pid}) ended "
            + (f"by signal {-one.returncode}" if one.returncode < 0 else f"with exit code {one.returncode}")
            for one in self._processes
            if one.poll() is not None
        ]

    def kill(self) -> None:
        for one in self._processes:
            if one.poll() is None:
                one.kill()

    def end(self) -> None:
        """Wait until they have left by themselves, as they were told; make them, if they do not."""
        for one in self._processes:
            try:
                one.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
