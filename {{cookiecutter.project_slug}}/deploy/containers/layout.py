"""What the stack consists of in containers: its services, where they are found, and where their files lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.balancer import Balancer
from deploy.errors import BadSetting
from deploy.fleet import worker_names
from deploy.notes import read_json, run_dir, write_json
from deploy.probe import HOST
from deploy.redis_configuration import redis_url
from deploy.settings import BROKER_SCHEMES, Settings, read_settings, read_values
from deploy.tls import Tls

# Inside, every container has an address of its own, so all of them take the same ports.
SERVICE_PORT = 8000
WEB_PORT, WORKERS_PORT, OPERATOR_PORT = 8000, 8001, 8002
REDIS_PORT = 6379
OPERATOR_OFFSET = 2
"""From the public port to the one for the operator, on this machine."""
GRAFANA_OFFSET = 4


@dataclass(frozen=True)
class ContainerLayout(Settings):
    project: str
    """Compose's name for all of it: that of containers, networks and volumes begins with it."""
    public_address: str
    """Of this machine, where the public port is opened."""
    service_settings: Mapping[str, str]
    """`CHAT_...` of the environment when the stack was started. What is set but empty counts as not set."""

    @property
    def public_host(self) -> str:
        """Where this machine reaches the public port."""
        return HOST if self.public_address in ("0.0.0.0", "::") else self.public_address

    @property
    def operator_port(self) -> int:
        return self.base_port + OPERATOR_OFFSET

    @property
    def grafana_port(self) -> int:
        """Of this machine, taken where the stack is watched."""
        return self.base_port + GRAFANA_OFFSET

    @property
    def ports(self) -> dict[int, str]:
        """Those of this machine that are taken, and what for."""
        return {self.base_port: "Traefik, public", self.operator_port: "Traefik, for the operator"}

    @property
    def gateway_names(self) -> list[str]:
        return [f"gateway-{number}" for number in range(1, self.gateways + 1)]

    @property
    def worker_names(self) -> list[str]:
        return worker_names(self.workers)

    @property
    def services(self) -> list[str]:
        """All of them, in the order in which they start."""
        return ["redis", *self.worker_names, *self.gateway_names, "traefik"]

    @property
    def redis_url(self) -> str:
        return redis_url(self.redis_password, "redis", REDIS_PORT)

    @property
    def channel_url(self) -> str:
        """What the workers share messages through."""
        scheme = BROKER_SCHEMES[self.delivery]
        return self.broker_url or redis_url(self.redis_password, "redis", REDIS_PORT, scheme=scheme)

    @property
    def folder(self) -> Path:
        """Nobody else of this machine may enter it: what is inside must be readable for the containers' users."""
        return self.var / "containers"

    @property
    def servers_path(self) -> Path:
        return self.folder / "servers.yaml"

    @property
    def compose_env_path(self) -> Path:
        return self.folder / "compose.env"

    @property
    def service_env_path(self) -> Path:
        return self.folder / "service.env"

    @property
    def balancer(self) -> Balancer:
        return Balancer(
            folder=self.folder / "traefik",
            folder_inside="/etc/chat",
            addresses={"web": f":{WEB_PORT}", "workers": f":{WORKERS_PORT}", "traefik": f":{OPERATOR_PORT}"},
            api_port=self.operator_port,
            tls=self.tls,
            certificate_inside="/etc/chat/tls/certificate.pem",
            key_inside="/etc/chat/tls/key.pem",
            acme_storage_inside="/acme/acme.json",
        )


def service_url(name: str) -> str:
    """How Traefik's configuration names a gateway or worker. It stays over restarts, and with it the sticky cookie."""
    return f"http://{name}:{SERVICE_PORT}"


def read_layout(root: Path, environment: Mapping[str, str]) -> ContainerLayout:
    """Raises `BadSetting`."""
    values = read_values(root, environment)
    return ContainerLayout(
        project=values.get("COMPOSE_PROJECT_NAME") or project_name(root),
        public_address=values.get("CHAT_PUBLIC_ADDRESS", "127.0.0.1"),
        service_settings={name: value for name, value in environment.items() if name.startswith("CHAT_") and value},
        **read_settings(root, environment, ports=range(1, 65536 - GRAFANA_OFFSET)),
    )


def project_name(root: Path) -> str:
    """The folder's, as compose itself would name it. Raises `BadSetting`."""
    name = re.sub(r"^[^a-z0-9]+|[^a-z0-9_-]", "", root.resolve().name.lower())
    if not name:
        raise BadSetting("COMPOSE_PROJECT_NAME", "", "lower-case letters, digits, '-' and '_' (the folder has none)")
    return name


def record_path(root: Path) -> Path:
    return run_dir(root) / "containers.json"


def write_record(layout: ContainerLayout) -> None:
    """Later commands go by it, whatever `.env` and the environment say then."""
    record_path(layout.root).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts: dict[str, Any] = {name: value for name, value in asdict(layout).items() if name != "root"}
    write_json(record_path(layout.root), facts)


def read_record(root: Path) -> ContainerLayout | None:
    """None where no stack was started, or it was stopped."""
    facts = read_json(record_path(root))
    if not facts:
        return None
    tls = facts.pop("tls")
    return ContainerLayout(root=root, tls=Tls(**tls) if tls else None, **facts)


def compose_environment(layout: ContainerLayout) -> dict[str, str]:
    """What compose.yaml takes out of the environment."""
    return {
        "COMPOSE_PROJECT_NAME": layout.project,
        "CHAT_PORT": str(layout.base_port),
        "CHAT_OPERATOR_PORT": str(layout.operator_port),
        "CHAT_GRAFANA_PORT": str(layout.grafana_port),
        "CHAT_PUBLIC_ADDRESS": layout.public_address,
        "CHAT_STOP_SECONDS": str(layout.stop_seconds),
        "CHAT_WORKERS": str(layout.workers),
    }


def own_environment() -> dict[str, str]:
    """The environment without what would change the meaning of compose.yaml behind our back."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "CHAT_"))}
