"""Traefik: writes its two files from the templates in `deploy/traefik`, and asks it for the health of the servers.

`write_dynamic` takes the servers to balance over, so a worker is added by writing the list again once it is ready, and
removed by writing the list without it before it drains.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from string import Template

from deploy.local.layout import HOST, Layout, Process
from deploy.local.probe import get

UP = "UP"
DOWN = "DOWN"
SERVICES = ("gateways", "chat")


def static_path(layout: Layout) -> Path:
    return layout.var / "traefik" / "static.yaml"


def dynamic_path(layout: Layout) -> Path:
    return layout.var / "traefik" / "dynamic.yaml"


def write_static(layout: Layout) -> None:
    """Read by Traefik once, at its start."""
    _write(
        layout,
        static_path(layout),
        web_address=f"{HOST}:{layout.web_port}",
        workers_address=f"{HOST}:{layout.workers_port}",
        traefik_address=f"{HOST}:{layout.traefik_port}",
        # Traefik starts in the project's folder.
        dynamic_file=str(dynamic_path(layout).relative_to(layout.root)),
    )


def write_dynamic(layout: Layout, gateways: Iterable[Process], workers: Iterable[Process]) -> None:
    """Traefik sees the change within about two seconds; `server_health` tells when."""
    _write(
        layout,
        dynamic_path(layout),
        gateway_servers=_servers(gateways),
        worker_servers=_servers(workers),
    )


def server_health(layout: Layout) -> dict[str, str]:
    """`UP` or `DOWN` by server URL, empty where Traefik does not answer.

    Traefik calls a server that it has not probed yet `UP`.
    """
    health: dict[str, str] = {}
    for service in SERVICES:
        answer = get(layout.traefik_port, f"/api/http/services/{service}@file")
        if answer and answer.status == 200:
            health |= json.loads(answer.body).get("serverStatus") or {}
    return health


def _servers(processes: Iterable[Process]) -> str:
    """A YAML flow list, one server a line."""
    lines = ",\n".join(f'          {{ "url": "{process.url}" }}' for process in processes)
    return f"[\n{lines}\n        ]" if lines else "[]"


def _write(layout: Layout, path: Path, **values: str) -> None:
    """Replaced in one step: Traefik must never read half a file."""
    template = Template((layout.root / "deploy" / "traefik" / path.name).read_text("utf-8"))
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(template.substitute(values), "utf-8")
    unfinished.replace(path)
