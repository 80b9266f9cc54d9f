"""What the stack is made of, whichever way it runs: its numbers, its password, its certificate.

Read once per command from pyproject.toml `[tool.deployment]`, `.env` and the environment, the later ones winning.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from deploy.errors import BadSetting, WrongState
from deploy.probe import HOST
from deploy.tls import Tls, read_tls

PROJECT_ROOT = Path(__file__).parents[1].absolute()
MAX_GATEWAYS = 9
MAX_WORKERS = 64
BROKER_SCHEMES = {"log": "redis", "at-most-once": "redis+pubsub"}
"""Of the URL of the stack's own Redis, by what is promised about messages."""
# What the service takes for a stop where nothing else is set, and a margin for a busy machine.
DRAIN_SECONDS, SHUTDOWN_SECONDS, STOP_MARGIN_SECONDS = 5, 10, 15


@dataclass(frozen=True)
class Settings:
    root: Path
    package: str
    base_port: int
    """The public one; a way to run takes those above it as it needs them."""
    workers: int
    gateways: int
    delivery: str
    """One of `BROKER_SCHEMES`."""
    redis_password: str
    stop_seconds: int
    """How long a gateway or worker may take to drain and end."""
    broker_url: str | None
    """Given by the caller instead of the stack's own Redis, `memory://` for instance."""
    tls: Tls | None

    @property
    def var(self) -> Path:
        return self.root / "var"

    @property
    def scheme(self) -> str:
        """Of the public entry point."""
        return "https" if self.tls else "http"

    @property
    def public_host(self) -> str:
        """Where this machine reaches the public port."""
        return HOST

    @property
    def ws_url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://{self.public_host}:{self.base_port}/ws"


def raise_if_different(asked: Settings, running: Settings, environment: Mapping[str, str]) -> None:
    """Raises `WrongState` where somebody asks now, in the environment, for another stack than the one that runs."""
    if (environment.get("CHAT_PORT") and asked.base_port != running.base_port) or (
        environment.get("CHAT_WORKERS") and asked.workers != running.workers
    ):
        raise WrongState(
            f"The stack runs already, on port {running.base_port} with {running.workers} chat workers; asked for was "
            f"port {asked.base_port} with {asked.workers}. `make scale WORKERS={asked.workers}` changes the number of "
            "workers, `make down` makes way for another port."
        )


def read_values(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """What `.env` and the environment say. A value that is set but empty counts as not set."""
    values: dict[str, str] = {}
    for source in (dotenv_values(root / ".env"), environment):
        values |= {name: value for name, value in source.items() if value}
    return values


def read_settings(root: Path, environment: Mapping[str, str], *, ports: range) -> dict[str, Any]:
    """The fields of `Settings`. `ports` may be the public one. Raises `BadSetting`."""
    deployment = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["deployment"]
    values = read_values(root, environment)
    password = values.get("CHAT_REDIS_PASSWORD", "")
    if not re.fullmatch(r"[\x20-\x7e]+", password):
        allowed = "one or more printable ASCII characters (set it in .env; .env.example shows how)"
        raise BadSetting("CHAT_REDIS_PASSWORD", "(hidden)" if password else "", allowed)
    drain, shutdown = (
        _seconds(name, values.get(name, default))
        for name, default in (("CHAT_DRAIN_SECONDS", DRAIN_SECONDS), ("CHAT_SHUTDOWN_SECONDS", SHUTDOWN_SECONDS))
    )
    return {
        "root": root,
        "package": deployment["package"],
        "base_port": _integer("CHAT_PORT", values.get("CHAT_PORT", 8000), ports),
        "workers": worker_count("CHAT_WORKERS", values.get("CHAT_WORKERS", deployment["workers"])),
        "gateways": _integer(
            "CHAT_GATEWAYS", values.get("CHAT_GATEWAYS", deployment.get("gateways", 1)), range(1, MAX_GATEWAYS + 1)
        ),
        "delivery": _delivery(deployment.get("delivery", "log")),
        "redis_password": password,
        "stop_seconds": drain + shutdown + STOP_MARGIN_SECONDS,
        "broker_url": values.get("CHAT_BROKER_URL"),
        "tls": read_tls(root, values),
    }


def worker_count(name: str, value: object) -> int:
    """Raises `BadSetting`."""
    return _integer(name, value, range(1, MAX_WORKERS + 1))


def _delivery(value: object) -> str:
    if value not in BROKER_SCHEMES:
        raise BadSetting("delivery in pyproject.toml", value, " or ".join(BROKER_SCHEMES))
    return str(value)


def _seconds(name: str, value: str | int) -> int:
    """Rounded up. What the service allows is for the service to say."""
    try:
        return math.ceil(float(value))
    except (ValueError, OverflowError):
        raise BadSetting(name, value, "a number of seconds") from None


def _integer(name: str, value: object, allowed: range) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = allowed.start - 1
    if number not in allowed:
        raise BadSetting(name, value, f"a whole number from {allowed.start} to {allowed.stop - 1}")
    return number
