"""Writes what compose.yaml takes from `var/containers`: settings, servers, and the configuration of Traefik and Redis.

The folder is closed for everybody else of this machine; what lies in it is readable for all, because the users inside
the containers are others than the one who writes it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml
from dotenv import dotenv_values

from deploy.containers.layout import WORKERS_PORT, ContainerLayout, compose_environment, service_url
from deploy.notes import write_private
from deploy.redis_configuration import redis_configuration

# Nobody may be the default user, but it keeps all rights: Redis 8 replays the append-only file in its name, and drops
# every transaction in there (each call of a script is one) that this user may not do.
NO_DEFAULT_USER = "user default reset off ~* &* +@all"
# Less than the container's limit: an append-only file is rewritten by a child that shares its memory at first.
REDIS_MAX_MEMORY = "1gb"


def write_files(layout: ContainerLayout) -> None:
    """All of them, before the start. Traefik gets every worker."""
    layout.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    layout.folder.chmod(0o700)
    for name in ("traefik", "traefik/tls", "redis", "acme"):
        folder = layout.folder / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    (layout.folder / "acme").chmod(0o777)  # Traefik writes the certificates that it gets
    own = ["bind * -::*", "dir /data", f"maxmemory {REDIS_MAX_MEMORY}"]
    own.append(NO_DEFAULT_USER)
    _write_readable(layout.folder / "redis" / "redis.conf", redis_configuration(layout.redis_password, own))
    copy_certificate(layout)
    write_service_settings(layout)
    write_servers(layout)
    layout.balancer.write_static()
    layout.balancer.write_dynamic(map(service_url, layout.gateway_names), map(service_url, layout.worker_names))


def copy_certificate(layout: ContainerLayout) -> None:
    if layout.tls and layout.tls.certificate:
        for path, name in ((layout.tls.certificate, "certificate.pem"), (layout.tls.key, "key.pem")):
            copy = layout.folder / "traefik" / "tls" / name
            shutil.copyfile(path, copy)
            copy.chmod(0o644)


def write_service_settings(layout: ContainerLayout) -> None:
    """`.env` as it is now, the environment as it was at the start, and what only this way of running decides."""
    dotenv = {name: value for name, value in dotenv_values(layout.root / ".env").items() if value}
    given = {**dotenv, **layout.service_settings}
    settings = {name: value for name, value in given.items() if name.startswith("CHAT_")}
    own = {
        "CHAT_HOST": "0.0.0.0",
        "CHAT_BIND_PORT": "8000",
        "CHAT_BROKER_URL": layout.channel_url,
        "CHAT_REDIS_URL": layout.redis_url,
        "CHAT_WORKERS_URL": f"ws://traefik:{WORKERS_PORT}/ws",
        # Nobody but Traefik can come near, and Traefik drops what clients say about themselves.
        "CHAT_TRUSTED_PROXIES": "*",
    }
    settings = {name: value for name, value in settings.items() if name not in STACK_ONLY} | own
    write_private(layout.service_env_path, "".join(f"{name}={value}\n" for name, value in settings.items()))


# Settings of the stack that the service has no use for, and no business to know.
STACK_ONLY = ("CHAT_REDIS_PASSWORD", "CHAT_PORT", "CHAT_WORKERS", "CHAT_GATEWAYS", "CHAT_RUNTIME", "CHAT_WORKER_NAME")


def write_servers(layout: ContainerLayout) -> None:
    """The workers and gateways beyond the first, which compose.yaml describes."""
    services: dict[str, object] = {}
    for first, names in (("gateway-1", layout.gateway_names), ("chat-1", layout.worker_names)):
        for name in names[1:]:
            services[name] = {
                "extends": {"file": "compose.yaml", "service": first},
                "hostname": name,
                "environment": {"CHAT_WORKER_NAME": name},
            }
    _write_readable(layout.servers_path, yaml.safe_dump({"services": services}, sort_keys=False))
    environment = compose_environment(layout)
    _write_readable(layout.compose_env_path, "".join(f"{name}={value}\n" for name, value in environment.items()))


def _write_readable(path: Path, text: str) -> None:
    """Replaced in one step."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, "utf-8")
    unfinished.chmod(0o644)
    unfinished.replace(path)
