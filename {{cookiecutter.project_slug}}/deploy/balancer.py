"""`Balancer`: the Traefik of a stack. Writes its two files from the templates in `deploy/traefik`, and asks it for the
health of the servers.

A worker is added by writing the list of servers again once it is ready, and removed by writing the list without it
before it drains.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

from deploy.errors import BalancerDeaf
from deploy.probe import get
from deploy.settings import PROJECT_ROOT
from deploy.tls import Tls, add_to_dynamic, add_to_static

UP = "UP"
DOWN = "DOWN"
SERVICES = ("gateways", "chat")
TAKE_OVER_SECONDS = 20
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Balancer:
    folder: Path
    """Where the files are written."""
    folder_inside: str
    """The same folder as Traefik sees it."""
    addresses: Mapping[str, str]
    """To listen on, by entry point: web, workers, traefik."""
    api_port: int
    """Of this machine, where it answers the operator."""
    tls: Tls | None
    certificate_inside: str
    """Paths as Traefik sees them, empty without a certificate."""
    key_inside: str
    acme_storage_inside: str

    @property
    def static_path(self) -> Path:
        return self.folder / "static.yaml"

    @property
    def dynamic_path(self) -> Path:
        return self.folder / "dynamic.yaml"

    def write_static(self) -> None:
        """Read by Traefik once, at its start."""
        addresses = {f"{entry_point}_address": address for entry_point, address in self.addresses.items()}
        configuration = _filled_in("static.yaml", dynamic_file=f"{self.folder_inside}/dynamic.yaml", **addresses)
        if self.tls:
            add_to_static(self.tls, configuration, acme_storage=self.acme_storage_inside)
        _write(self.static_path, configuration)

    def write_dynamic(self, gateways: Iterable[str], workers: Iterable[str]) -> None:
        """The URLs to balance over. Traefik sees the change within a second; `health` tells when."""
        configuration = _filled_in("dynamic.yaml", gateway_servers=_servers(gateways), worker_servers=_servers(workers))
        if self.tls:
            add_to_dynamic(self.tls, configuration, certificate=self.certificate_inside, key=self.key_inside)
        _write(self.dynamic_path, configuration)

    def balance(self, gateways: Iterable[str], workers: Iterable[str]) -> None:
        """`write_dynamic`, and return when Traefik goes by it. Raises `BalancerDeaf`."""
        wanted = {*gateways, *workers}
        self.write_dynamic(gateways, workers)
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while (listed := set(self.health())) != wanted:
            if time.monotonic() > deadline:
                raise BalancerDeaf(self.dynamic_path, TAKE_OVER_SECONDS, listed)
            time.sleep(POLL_SECONDS)

    def health(self) -> dict[str, str]:
        """`UP` or `DOWN` by server URL, empty where Traefik does not answer.

        Traefik calls a server that it has not probed yet `UP`.
        """
        health: dict[str, str] = {}
        for service in SERVICES:
            answer = get(self.api_port, f"/api/http/services/{service}@file")
            if answer and answer.status == 200:
                health |= json.loads(answer.body).get("serverStatus") or {}
        return health


def _servers(urls: Iterable[str]) -> str:
    """JSON, and so a YAML flow list."""
    return json.dumps([{"url": url} for url in urls])


def _filled_in(name: str, **values: str) -> dict[str, Any]:
    template = Template((PROJECT_ROOT / "deploy" / "traefik" / name).read_text("utf-8"))
    configuration: dict[str, Any] = yaml.safe_load(template.substitute(values))
    return configuration


def _write(path: Path, configuration: dict[str, Any]) -> None:
    """Replaced in one step: Traefik must never read half a file."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(yaml.safe_dump(configuration, sort_keys=False), "utf-8")
    unfinished.chmod(0o644)
    unfinished.replace(path)
