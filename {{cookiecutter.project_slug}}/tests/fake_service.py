"""The stand-in service of `fake_chat.py` as a process, for the programs that load it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.redis_server import free_port

ROOT = Path(__file__).parents[1]
DEADLINE_SECONDS = 60
SETTINGS = ("CHAT_", "LOADTEST_", "SATURATE_")


def environment() -> dict[str, str]:
    """This process's, without settings of the service and of load tests."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return outside | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


@contextmanager
def fake_service(folder: Path) -> Iterator[int]:
    """The port at which it answers; its log is in the folder."""
    number, log = free_port(), folder / "fake_chat.log"
    with log.open("wb") as output:
        command = [sys.executable, "tests/fake_chat.py", str(number)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=output, stderr=output)
    try:
        wait_until(lambda: any(one.laddr.port == number for one in listeners(process.pid)), log)
        yield number
    finally:
        process.terminate()
        process.wait()


def listeners(pid: int) -> list[Any]:
    return [one for one in psutil.Process(pid).net_connections("tcp") if one.status == psutil.CONN_LISTEN]


def wait_until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text("utf-8")
        time.sleep(0.05)
