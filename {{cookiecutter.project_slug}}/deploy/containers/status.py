"""The rows of `ps` for containers."""

from __future__ import annotations

from datetime import UTC, datetime

from deploy.containers.engine import containers
from deploy.containers.layout import ContainerLayout, service_url
from deploy.containers.readiness import state_reason
from deploy.status import Row, uptime


def rows(layout: ContainerLayout) -> list[Row]:
    """One per service of the stack as it was started, then its other containers: those that watch it, and strangers."""
    found = {container.service: container for container in containers(layout.project)}
    health = layout.balancer.health()
    published = {"traefik": str(layout.base_port)}
    others = sorted(found.keys() - {*layout.services, "loadtest", "loadtest-worker"})
    listed = []
    for name in [*layout.services, *others]:
        container = found.get(name)
        runs = container is not None and container.state == "running"
        balanced = name.startswith(("chat-", "gateway-"))
        listed.append(
            Row(
                name=name,
                state=container.state if container else "gone",
                pid=str(container.pid) if container and runs else "-",
                uptime=uptime((datetime.now(UTC) - container.started).total_seconds()) if container and runs else "-",
                port=published.get(name, "-"),
                traefik=health.get(service_url(name), "unknown") if balanced else "-",
                ready=(state_reason(container) or "yes") if container else "no",
            )
        )
    return listed
