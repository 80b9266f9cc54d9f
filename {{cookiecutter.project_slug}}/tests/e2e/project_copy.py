"""A copy of this project in a folder of its own, with ports of its own: its stack disturbs no other one."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from deploy.containers.engine import KILL_EXIT_CODES, KILL_THE_PROGRAM, Container, containers
from deploy.local import records
from deploy.local.layout import LAST_OFFSET, Layout, read_layout
from deploy.local.ports import is_free
from deploy.local.status import rows
from deploy.settings import PROJECT_ROOT
from deploy.status import Row

COMMAND_SECONDS = 300
SOURCES = ("deploy", "src", "loadtests", "requirements")
FILES = ("pyproject.toml", "Dockerfile", "compose.yaml", ".dockerignore")


@dataclass(frozen=True)
class ProjectCopy:
    root: Path
    base_port: int
    runtime: str = "local"
    """Or `containers`."""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the service's settings comes from outside."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
        own = {
            "CHAT_PORT": str(self.base_port),
            "CHAT_WORKERS": "2",
            "COMPOSE_PROJECT_NAME": self.compose_project,
            "PYTHONPATH": str(self.root / "src"),
        }
        return {**outside, **own, **self.settings}

    @property
    def layout(self) -> Layout:
        return read_layout(self.root, self.environment)

    @property
    def compose_project(self) -> str:
        return f"chat-test-{self.base_port}"

    @property
    def token_secret(self) -> str:
        secret = dotenv_values(self.root / ".env")["CHAT_TOKEN_SECRET"]
        assert secret
        return secret

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`python -m deploy.RUNTIME ARGUMENTS`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", f"deploy.{self.runtime}", *arguments],
            cwd=self.root,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            [sys.executable, "-m", f"deploy.{self.runtime}", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def up(self) -> None:
        done = self.run("up")
        assert done.returncode == 0, done.stdout + done.stderr

    def row(self, name: str) -> Row:
        return next(row for row in rows(self.root) if row.name == name)

    def container(self, name: str) -> Container:
        return next(one for one in containers(self.compose_project) if one.service == name)

    def identities(self) -> dict[str, str]:
        """By name, what changes when a part of the stack is started anew."""
        if self.runtime == "local":
            return {name: str(process.pid) for name, process in records.live_processes(self.root).items()}
        running = [one for one in containers(self.compose_project) if one.state == "running"]
        return {one.service: f"{one.id} {one.pid}" for one in running}

    def crash(self, name: str) -> None:
        """SIGKILL to the program itself, as if it had ended by a fault."""
        if self.runtime == "local":
            records.live_processes(self.root)[name].kill()
            return
        killing = ["docker", "exec", self.container(name).id, *KILL_THE_PROGRAM]
        killed = subprocess.run(killing, capture_output=True, text=True, timeout=20)
        assert killed.returncode in KILL_EXIT_CODES, killed.stdout + killed.stderr

    def workers(self) -> list[str]:
        return sorted(name for name in self.identities() if name.startswith("chat-"))


def copy_project(destination: Path, runtime: str = "local", **settings: str) -> ProjectCopy:
    for folder in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "reports")
        shutil.copytree(PROJECT_ROOT / folder, destination / folder, ignore=ignored)
    for file in FILES:
        shutil.copy(PROJECT_ROOT / file, destination)
    dotenv = destination / ".env"
    dotenv.touch(0o600)
    dotenv.write_text(f"CHAT_REDIS_PASSWORD={secrets.token_hex()}\nCHAT_TOKEN_SECRET={secrets.token_hex()}\n")
    return ProjectCopy(destination, free_base_port(), runtime, settings)


def free_base_port() -> int:
    """Below the ports that systems give to outgoing connections."""
    while True:
        base = random.randrange(11000, 32000 - LAST_OFFSET, 100)
        if all(is_free(base + offset) for offset in range(LAST_OFFSET + 1)):
            return base


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
