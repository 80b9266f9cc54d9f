"""Real gateway and worker processes for tests, each on a free port, each gone at the end."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.redis_server import free_port
from tests.service import ROOT, command

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass
class Running:
    """A process that answers on `port`; what it writes is in `log`."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def stop(self) -> int:
        """The exit code, after SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def service_environment(settings: Mapping[str, str], root: Path = ROOT) -> dict[str, str]:
    """This process's environment with `settings` as the only ones of the service."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
    return inherited | {"PYTHONPATH": os.pathsep.join((str(root / "src"), str(root)))} | dict(settings)


@contextlib.contextmanager
def service(
    role: str, folder: Path, settings: Mapping[str, str], *, path: str = "/readyz", root: Path = ROOT
) -> Iterator[Running]:
    """A `gateway` or `chat` process of the project in `root`, from when it answers 200 on `path`."""
    port = int(settings.get("CHAT_BIND_PORT") or free_port())
    environment = service_environment({"CHAT_HOST": "127.0.0.1", "CHAT_BIND_PORT": str(port), **settings}, root)
    log = folder / f"{role}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(role, root), env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    running = Running(process, port, log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _is_ok(running.http + path):
            assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text('utf-8', 'replace')}"
            assert time.monotonic() < deadline, f"not ready in time:\n{log.read_text('utf-8', 'replace')}"
            time.sleep(0.02)
        yield running
    finally:
        running.stop()


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
