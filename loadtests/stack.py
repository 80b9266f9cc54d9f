"""`Stack`: the processes of one measurement, each pinned to a core, and all of them gone when it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from . import runtimes
from .contender import FOLDER, Contender

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0
PR_SET_PDEATHSIG: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


class StartFailed(Exception):
    """A process did not come up; carries the end of what it said."""


@dataclass(frozen=True)
class Cores:
    server: int
    client: int
    """Also has Redis and, behind a gateway, the worker."""


def choose_cores(siblings_of: Callable[[int], set[int]] | None = None) -> Cores:
    """Two cores that are not threads of one, where there are such. Raises `Missing` on a machine with a single core."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise runtimes.Missing("two cores are needed: one for the server, one for the client")
    siblings = (siblings_of or thread_siblings)(usable[0])
    return Cores(usable[0], next((core for core in usable[1:] if core not in siblings), usable[1]))


def thread_siblings(core: int) -> set[int]:
    try:
        listed = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
    except OSError:
        return {core}
    found: set[int] = set()
    for part in listed.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(core: int) -> Callable[[], None]:
    """To be called in a new process: stay on one core, and end when the parent does."""

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    port: int

    @property
    def pids(self) -> list[int]:
        """Its process and those that it started."""
        return family(self.process.pid)


def family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(one for child in children for one in family(int(child)))]


class Stack:
    """Starts servers; stops them, in reverse order, at the end of the `with` block."""

    def __init__(self, cores: Cores, folder: Path) -> None:
        self.cores = cores
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._redis_url = ""
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        while self._started:
            stop(self._started.pop())

    def start_redis(self) -> Server:
        """A Redis that stores nothing on disk, on the client's core."""
        port = free_port()
        command = [runtimes.redis_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--appendonly", "no", "--dir", str(self._folder), "--maxclients", "9000"]
        server = self._start("redis", command, self.cores.client, port, self._folder, {})
        self._redis_url = f"redis://127.0.0.1:{port}/0"
        return server

    def start(self, contender: Contender, core: int, upstream: Server | None = None) -> Server:
        """A contender; for a gateway, `upstream` is what stands behind it. Raises `StartFailed`."""
        port = free_port()
        values = {
            "python": str(runtimes.PYTHON),
            "port": str(port),
            "redis_url": self._redis_url,
            "template": str(runtimes.TEMPLATE),
            "run": str(self._folder),
            "bin": str(runtimes.BUILD / "bin"),
            "upstream": str(upstream.port if upstream else ""),
        }
        if contender.needs == "nchan":
            values |= {"nginx": runtimes.nginx() or "", "nginx_prefix": str(runtimes.nginx_prefix())}
        if contender.config:
            config = self._folder / contender.config
            config.write_text(fill_in((FOLDER / contender.config).read_text(), values))
            values["config"] = str(config)
        command = [fill_in(part, values) for part in contender.command]
        environment = {name: fill_in(text, values) for name, text in contender.environment.items()}
        folder = runtimes.BUILD / contender.folder if contender.folder else FOLDER
        return self._start(contender.name, command, core, port, folder, environment)

    def _start(
        self, name: str, command: Sequence[str], core: int, port: int, folder: Path, environment: dict[str, str]
    ) -> Server:
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                # What is set for our own Python must not decide how a contender runs.
                env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
                | {"PYTHONDONTWRITEBYTECODE": "1"}
                | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we end them
                preexec_fn=pinned(core),
            )
        self._started.append(process)
        if not answers(process, port):
            said = log.read_text(errors="replace").strip().splitlines()[-12:]
            raise StartFailed(f"{name} did not come up:\n" + "\n".join(said))
        return Server(process, port)


def fill_in(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the process listens before it ends, or its time is over."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            time.sleep(0.03)
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    members = family(process.pid) if process.poll() is None else []
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in members[1:]:  # children that outlived it
        if os.path.exists(f"/proc/{pid}"):
            os.kill(pid, signal.SIGKILL)
