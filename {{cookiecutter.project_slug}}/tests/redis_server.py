"""A real Redis process for tests, on a free port of loopback: started, frozen, killed and stopped by its pid."""

import contextlib
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path

from deploy.local.binaries import find_redis

START_SECONDS = 20.0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class RedisServer:
    """One server; what it stores survives `stop` and `start` (append-only file, synced at each write)."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it answers."""
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(find_redis()),
                    *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)),
                    *("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((self._directory / "redis.log").read_text())
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
