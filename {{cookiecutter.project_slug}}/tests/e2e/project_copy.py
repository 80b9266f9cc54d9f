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

from deploy.local.layout import LAST_OFFSET, Layout, read_layout
from deploy.local.ports import is_free
from deploy.local.status import rows
from deploy.settings import PROJECT_ROOT
from deploy.status import Row

COMMAND_SECONDS = 100


@dataclass(frozen=True)
class ProjectCopy:
    root: Path
    base_port: int
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the service's settings comes from outside."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
        return outside | {"CHAT_PORT": str(self.base_port), "CHAT_WORKERS": "2", **self.settings}

    @property
    def layout(self) -> Layout:
        return read_layout(self.root, self.environment)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`python -m deploy.local ARGUMENTS`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "deploy.local", *arguments],
            cwd=self.root,
            env=self.environment | settings,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end."""
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local", *arguments],
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


def copy_project(destination: Path, **settings: str) -> ProjectCopy:
    for folder in ("deploy", "src"):
        shutil.copytree(PROJECT_ROOT / folder, destination / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT_ROOT / "pyproject.toml", destination)
    dotenv = destination / ".env"
    dotenv.touch(0o600)
    dotenv.write_text(f"CHAT_REDIS_PASSWORD={secrets.token_hex()}\nCHAT_TOKEN_SECRET={secrets.token_hex()}\n")
    return ProjectCopy(destination, free_base_port(), settings)


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
