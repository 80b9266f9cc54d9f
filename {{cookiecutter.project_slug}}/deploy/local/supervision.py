"""supervisord: its configuration, its start, and the calls to it (XML-RPC over a Unix socket).

supervisord 4.3 needs neither pkg_resources nor the standard library's asyncore (it brings its own): Python 3.12 and
newer run it as they are.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import resource
import socket
import subprocess
import sys
import tempfile
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import StackError, SupervisorGone
from deploy.local.layout import Layout, Role
from deploy.local.records import SUPERVISORD

# What the least generous system (macOS) takes as the name of a Unix socket, with its closing zero, is 104 bytes.
# supervisord appends a dot and a pid to the name while it binds.
MAX_SOCKET_PATH_BYTES = 104 - 1 - len(".4194304")
BAD_SETTINGS_EXIT_CODE = 2
WANTED_FILE_DESCRIPTORS = 65536


@dataclass(frozen=True)
class ProcessState:
    """What supervisord says of a process. `exit_status` speaks of its last end."""

    name: str
    state: str
    pid: int
    exit_status: int

    @property
    def runs(self) -> bool:
        return self.state in ("STARTING", "RUNNING")

    @property
    def stopped(self) -> bool:
        return self.state in ("STOPPED", "EXITED", "FATAL")

    @property
    def refused_settings(self) -> bool:
        return self.state == "EXITED" and self.exit_status == BAD_SETTINGS_EXIT_CODE


class Supervisor:
    """The supervisord behind a socket. Every call raises `SupervisorGone` where it does not answer, or is ending."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def answers(self) -> bool:
        try:
            self._call("supervisor.getState")
        except SupervisorGone:
            return False
        return True

    def states(self) -> dict[str, ProcessState]:
        return {
            info["name"]: ProcessState(info["name"], info["statename"], info["pid"], info["exitstatus"])
            for info in self._call("supervisor.getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Returns at once."""
        self._call("supervisor.startProcess", name, False)

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL after its `stop_seconds`. Returns at once; also where it does not run."""
        try:
            self._call("supervisor.stopProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if not fault.faultString.startswith("NOT_RUNNING"):
                raise

    def follow_configuration(self) -> None:
        """Take in the programs that the written configuration has and this does not, drop those that it lost.

        What is dropped must have stopped before.
        """
        ((added, _, removed),) = self._call("supervisor.reloadConfig")
        for name in removed:
            self._call("supervisor.removeProcessGroup", name)
        for name in added:
            self._call("supervisor.addProcessGroup", name)

    def shutdown(self) -> None:
        self._call("supervisor.shutdown")

    def _call(self, method: str, *arguments: Any) -> Any:
        proxy = xmlrpc.client.ServerProxy("http://supervisor", transport=_UnixTransport(self._socket_path))
        try:
            with proxy:
                return getattr(proxy, method)(*arguments)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorGone(f"supervisord does not answer: {error}") from error
        except xmlrpc.client.Fault as fault:
            if fault.faultString.startswith("SHUTDOWN_STATE"):
                raise SupervisorGone("supervisord is stopping: wait for its end, then repeat the command.") from fault
            raise


def socket_path(layout: Layout) -> Path:
    """In `var/run`, or in a private folder of the temporary directory where the project lies too deep for that."""
    path = layout.run_dir / "supervisor.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    key = hashlib.sha256(os.fsencode(layout.root)).hexdigest()[:16]
    for parent in (tempfile.gettempdir(), "/tmp"):
        path = Path(parent) / f"chat-stack-{os.getuid()}-{key}" / "s.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return path
    raise StackError(f"{path} is too long for a Unix socket: set TMPDIR to a shorter path")


def make_socket_folder(path: Path) -> None:
    """Only its owner may enter: who can reach the socket can start processes."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    status = path.parent.lstat()
    if status.st_uid != os.getuid() or path.parent.is_symlink() or status.st_mode & 0o077:
        raise StackError(f"{path.parent} is not a folder that only you can enter: remove it")


def write_configuration(layout: Layout, socket_path: Path) -> None:
    """Paths are relative to the project, where supervisord starts: its parser trips over some absolute ones."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = WANTED_FILE_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILE_DESCRIPTORS)
    inside = socket_path.is_relative_to(layout.root)
    listen = str(socket_path.relative_to(layout.root)) if inside else str(socket_path).replace("%", "%%")
    sections = [
        f"""\
[unix_http_server]
file = {listen}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisord]
logfile = var/log/{SUPERVISORD}.log
logfile_maxbytes = 10MB
logfile_backups = 3
pidfile = var/run/{SUPERVISORD}.own
nocleanup = true
silent = true
minfds = {descriptors}
"""
    ]
    for process in layout.processes:
        service = process.role in (Role.CHAT, Role.GATEWAY)
        # A program of Go that panics also ends with 2.
        restart = f"autorestart = unexpected\nexitcodes = {BAD_SETTINGS_EXIT_CODE}" if service else "autorestart = true"
        sections.append(f"""\
[program:{process.name}]
command = %(ENV_DEPLOY_PYTHON)s -m deploy.local.launch {process.name}
autostart = false
{restart}
startsecs = 0
stopwaitsecs = {process.stop_seconds}
killasgroup = true
redirect_stderr = true
stdout_logfile = var/log/{process.name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
""")
    (layout.run_dir / "supervisord.conf").write_text("\n".join(sections), "utf-8")


def start_supervisord(layout: Layout) -> subprocess.Popen[bytes]:
    """In a session of its own, so that a Ctrl-C at the terminal does not reach it."""
    quoted_python = '"' + sys.executable.replace("\\", "\\\\").replace('"', '\\"') + '"'
    with (layout.log_dir / f"{SUPERVISORD}.out").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local.launch", SUPERVISORD],
            cwd=layout.root,
            env=os.environ | {"DEPLOY_PYTHON": quoted_python},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        # A supervisord that is frozen must not freeze who asks it.
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._unix_connection: _UnixConnection | None = None

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        self._unix_connection = _UnixConnection(self._path)
        return self._unix_connection

    def close(self) -> None:
        if self._unix_connection:
            self._unix_connection.close()
