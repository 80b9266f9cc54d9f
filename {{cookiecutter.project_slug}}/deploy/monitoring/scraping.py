"""What Prometheus asks, for a stack without containers: prometheus.yml with this machine's ports in place of names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deploy.local.layout import Layout
from deploy.probe import HOST

FOLDER = Path(__file__).parent


def local_configuration(layout: Layout) -> dict[str, Any]:
    """The jobs keep their names, so the alerts and the dashboard hold for both ways to run."""
    configuration: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    ports = {
        "chat": {worker.name: worker.port for worker in layout.chat_workers},
        "gateway": {gateway.name: gateway.port for gateway in layout.gateway_processes},
        "traefik": {"traefik": layout.traefik_port},
    }
    configuration["rule_files"] = [str(FOLDER / name) for name in configuration["rule_files"]]
    configuration["scrape_configs"] = [
        {
            "job_name": job["job_name"],
            "static_configs": [
                {"targets": [f"{HOST}:{port}"], "labels": {"instance": name}}
                for name, port in ports[job["job_name"]].items()
            ],
        }
        for job in configuration["scrape_configs"]
    ]
    return configuration


def write_local(layout: Layout) -> Path:
    path = layout.var / "monitoring" / "prometheus.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(local_configuration(layout), sort_keys=False), "utf-8")
    return path
