"""What the stack consists of: its processes, their ports, and where their files lie.

Read once per command from pyproject.toml `[tool.deployment]`, `.env` and the environment, the later ones winning.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from dotenv import dotenv_values

from deploy.local.errors import BadSetting
from deploy.local.notes import run_dir

HOST = "127.0.0.1"
PROJECT_ROOT = Path(__file__).parents[2].absolute()
GATEWAYS = 1
MAX_WORKERS = 64
FIRST_GATEWAY_OFFSET = 11
FIRST_WORKER_OFFSET = 21
LAST_OFFSET = FIRST_WORKER_OFFSET + MAX_WORKERS - 1
# Traefik's graceTimeOut is 10 s.
OTHER_STOP_SECONDS = 20
# What the service takes for a stop where nothing else is set, and a margin for a busy machine.
DRAIN_SECONDS, SHUTDOWN_SECONDS, STOP_MARGIN_SECONDS = 5, 10, 15


class Role(StrEnum):
    REDIS = "redis"
    CHAT = "chat"
    GATEWAY = "gateway"
    TRAEFIK = "traefik"


@dataclass(frozen=True)
class Process:
    """One process under supervision."""

    name: str
    role: Role
    port: int
    """Where it answers questions about its health."""
    stop_seconds: int
    """What has not ended so long after SIGTERM is killed."""

    @property
    def url(self) -> str:
        """How Traefik's configuration names it."""
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class Layout:
    root: Path
    package: str
    base_port: int
    workers: int
    redis_password: str
    stop_seconds: int
    """How long a gateway or worker may take to drain and end."""
    broker_url: str | None
    """Given by the caller instead of the stack's own Redis, `memory://` for instance."""

    @property
    def web_port(self) -> int:
        return self.base_port

    @property
    def workers_port(self) -> int:
        return self.base_port + 1

    @property
    def traefik_port(self) -> int:
        return self.base_port + 2

    @property
    def redis_port(self) -> int:
        return self.base_port + 3

    @property
    def redis_url(self) -> str:
        return f"redis://:{quote(self.redis_password, safe='')}@{HOST}:{self.redis_port}/0"

    @property
    def redis(self) -> Process:
        return Process("redis", Role.REDIS, self.redis_port, OTHER_STOP_SECONDS)

    @property
    def traefik(self) -> Process:
        return Process("traefik", Role.TRAEFIK, self.traefik_port, OTHER_STOP_SECONDS)

    @property
    def gateways(self) -> tuple[Process, ...]:
        first = self.base_port + FIRST_GATEWAY_OFFSET
        return tuple(Process(f"gateway-{i + 1}", Role.GATEWAY, first + i, self.stop_seconds) for i in range(GATEWAYS))

    @property
    def chat_workers(self) -> tuple[Process, ...]:
        first = self.base_port + FIRST_WORKER_OFFSET
        return tuple(Process(f"chat-{i + 1}", Role.CHAT, first + i, self.stop_seconds) for i in range(self.workers))

    @property
    def processes(self) -> tuple[Process, ...]:
        """All of them, in the order in which they start."""
        return (self.redis, *self.chat_workers, *self.gateways, self.traefik)

    @property
    def ports(self) -> dict[int, str]:
        """Every port that somebody will listen on, and what it is for."""
        entry_points = {self.web_port: "Traefik, public", self.workers_port: "Traefik, to the workers"}
        return entry_points | {process.port: process.name for process in self.processes}

    @property
    def var(self) -> Path:
        return self.root / "var"

    @property
    def run_dir(self) -> Path:
        return run_dir(self.root)

    @property
    def log_dir(self) -> Path:
        return self.var / "log"

    def log_path(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def make_folders(self) -> None:
        """Passwords are in `var/run`, messages in `var/redis`: nobody else may look into them."""
        private = (self.run_dir, self.var / "redis")
        for folder in (*private, self.log_dir, self.var / "traefik"):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in private:
            folder.chmod(0o700)


def read_layout(root: Path, environment: Mapping[str, str]) -> Layout:
    """Raises `BadSetting`."""
    deployment = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["deployment"]
    settings: dict[str, str] = {}
    for source in (dotenv_values(root / ".env"), environment):
        settings |= {name: value for name, value in source.items() if value}
    password = settings.get("CHAT_REDIS_PASSWORD", "")
    if not password or not re.fullmatch(r"[\x20-\x7e]+", password):
        allowed = "one or more printable ASCII characters (set it in .env; .env.example shows how)"
        raise BadSetting("CHAT_REDIS_PASSWORD", "(hidden)" if password else "", allowed)
    return Layout(
        root=root,
        package=deployment["package"],
        base_port=_integer("CHAT_PORT", settings.get("CHAT_PORT", 8000), 1024, 65535 - LAST_OFFSET),
        workers=_integer("CHAT_WORKERS", settings.get("CHAT_WORKERS", deployment["workers"]), 1, MAX_WORKERS),
        redis_password=password,
        stop_seconds=_seconds("CHAT_DRAIN_SECONDS", settings.get("CHAT_DRAIN_SECONDS", DRAIN_SECONDS))
        + _seconds("CHAT_SHUTDOWN_SECONDS", settings.get("CHAT_SHUTDOWN_SECONDS", SHUTDOWN_SECONDS))
        + STOP_MARGIN_SECONDS,
        broker_url=settings.get("CHAT_BROKER_URL"),
    )


def _seconds(name: str, value: str | int) -> int:
    """Rounded up. What the service allows is for the service to say."""
    try:
        return math.ceil(float(value))
    except (ValueError, OverflowError):
        raise BadSetting(name, value, "a number of seconds") from None


def _integer(name: str, value: object, least: int, most: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise BadSetting(name, value, f"a whole number from {least} to {most}")
    return number
