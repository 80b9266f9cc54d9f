"""What the stack consists of without containers: its processes, their ports, and where their files lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.balancer import Balancer
from deploy.notes import run_dir
from deploy.probe import HOST
from deploy.redis_configuration import redis_url
from deploy.settings import BROKER_SCHEMES, MAX_WORKERS, Settings, read_settings

FIRST_GATEWAY_OFFSET = 11
FIRST_WORKER_OFFSET = 21
LAST_OFFSET = FIRST_WORKER_OFFSET + MAX_WORKERS - 1
# Traefik's graceTimeOut is 10 s.
OTHER_STOP_SECONDS = 20


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
    def is_balanced(self) -> bool:
        return self.role in (Role.CHAT, Role.GATEWAY)

    @property
    def url(self) -> str:
        """How Traefik's configuration names it."""
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class Layout(Settings):
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
        return redis_url(self.redis_password, HOST, self.redis_port)

    @property
    def channel_url(self) -> str:
        """What the workers share messages through."""
        scheme = BROKER_SCHEMES[self.delivery]
        return self.broker_url or redis_url(self.redis_password, HOST, self.redis_port, scheme=scheme)

    @property
    def redis(self) -> Process:
        return Process("redis", Role.REDIS, self.redis_port, OTHER_STOP_SECONDS)

    @property
    def traefik(self) -> Process:
        return Process("traefik", Role.TRAEFIK, self.traefik_port, OTHER_STOP_SECONDS)

    @property
    def gateway_processes(self) -> tuple[Process, ...]:
        first = self.base_port + FIRST_GATEWAY_OFFSET
        numbers = range(self.gateways)
        return tuple(Process(f"gateway-{i + 1}", Role.GATEWAY, first + i, self.stop_seconds) for i in numbers)

    @property
    def chat_workers(self) -> tuple[Process, ...]:
        first = self.base_port + FIRST_WORKER_OFFSET
        return tuple(Process(f"chat-{i + 1}", Role.CHAT, first + i, self.stop_seconds) for i in range(self.workers))

    @property
    def processes(self) -> tuple[Process, ...]:
        """All of them, in the order in which they start."""
        return (self.redis, *self.chat_workers, *self.gateway_processes, self.traefik)

    @property
    def ports(self) -> dict[int, str]:
        """Every port that somebody will listen on, and what it is for."""
        entry_points = {self.web_port: "Traefik, public", self.workers_port: "Traefik, to the workers"}
        return entry_points | {process.port: process.name for process in self.processes}

    @property
    def balancer(self) -> Balancer:
        return Balancer(
            folder=self.var / "traefik",
            folder_inside="var/traefik",  # Traefik starts in the project's folder
            addresses={
                "web": f"{HOST}:{self.web_port}",
                "workers": f"{HOST}:{self.workers_port}",
                "traefik": f"{HOST}:{self.traefik_port}",
            },
            api_port=self.traefik_port,
            tls=self.tls,
            certificate_inside=self.tls.certificate if self.tls else "",
            key_inside=self.tls.key if self.tls else "",
            acme_storage_inside="var/traefik/acme.json",
        )

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
    return Layout(**read_settings(root, environment, ports=range(1024, 65536 - LAST_OFFSET)))
