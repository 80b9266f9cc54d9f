"""Whether each service is ready, by its own word, and what it wrote where it is not."""

from __future__ import annotations

import time
from collections.abc import Sequence

from deploy.balancer import UP
from deploy.containers.compose import Compose
from deploy.containers.engine import Container, containers
from deploy.containers.layout import ContainerLayout, service_url
from deploy.errors import QUOTED_LINES, ComposeFailed, ServiceFailed
from deploy.probe import get
from deploy.say import Say

POLL_SECONDS = 0.2


def start_seconds(layout: ContainerLayout) -> int:
    """Many interpreters that start at once share few cores."""
    return 90 + 3 * layout.workers


def unready_reason(layout: ContainerLayout, name: str) -> str | None:
    """None when it is ready. Asked now: the engine's own view may be a few seconds old."""
    found = {container.service: container for container in containers(layout.project)}
    if name not in found:
        return "has no container"
    if (reason := state_reason(found[name])) or not name.startswith(("chat-", "gateway-")):
        return reason
    try:
        Compose(layout).run("exec", "-T", name, "python", "-I", "-S", "health.py", seconds=20)
    except ComposeFailed as failed:
        return failed.output.strip() or "does not answer"
    return None


def state_reason(container: Container) -> str | None:
    """Why a container does not work, as the engine sees it; None where it does."""
    if container.state != "running":
        code = f" (exit code {container.exit_code})" if container.state in ("exited", "restarting") else ""
        return f"{container.state}{code}"
    return None if container.health == "healthy" else container.health_output or container.health or "no health check"


def start(layout: ContainerLayout, names: Sequence[str], *, recreate: bool) -> None:
    """Start services, all where none is named, and return when they are healthy. Raises `ServiceFailed`."""
    compose = Compose(layout)
    try:
        compose.up(*names, recreate=recreate, seconds=start_seconds(layout))
    except ComposeFailed as failed:
        # The one that the others wait for says more than compose.
        for container in containers(layout.project):
            if container.state not in ("created", "running") or container.health == "unhealthy" or container.restarts:
                raise _failure(layout, container.service, state_reason(container) or "it was restarted") from failed
        raise
    wait_until_healthy(layout, names or layout.services)


def wait_until_healthy(layout: ContainerLayout, names: Sequence[str]) -> None:
    """Not compose's own wait, which gives up on a container that was unhealthy when it began."""
    deadline = time.monotonic() + start_seconds(layout)
    restarts = {container.service: container.restarts for container in containers(layout.project)}
    while True:
        found = {container.service: container for container in containers(layout.project)}
        reasons = {name: state_reason(found[name]) if name in found else "has no container" for name in names}
        unready = {name: reason for name, reason in reasons.items() if reason}
        if not unready:
            return
        for name, reason in unready.items():
            ended = name not in found or found[name].state not in ("created", "running")
            if ended or found[name].restarts > restarts.get(name, 0) or time.monotonic() > deadline:
                raise _failure(layout, name, reason)
        time.sleep(POLL_SECONDS)


def _failure(layout: ContainerLayout, name: str, reason: str) -> ServiceFailed:
    return ServiceFailed(name, reason, Compose(layout).last_log_lines(name, QUOTED_LINES))


def wait_until_balanced(layout: ContainerLayout, say: Say, seconds: float) -> None:
    """All gateways and workers are up in Traefik's view, and requests pass through it. Raises `ServiceFailed`."""
    begun = time.monotonic()
    while reason := _balancer_reason(layout):
        if time.monotonic() > begun + seconds:
            raise _failure(layout, "traefik", f"does not balance: {reason}")
        time.sleep(POLL_SECONDS)
    say(f"  requests pass through Traefik ({time.monotonic() - begun:.1f} s)")


def _balancer_reason(layout: ContainerLayout) -> str | None:
    health = layout.balancer.health()
    names = [*layout.gateway_names, *layout.worker_names]
    views = {name: health.get(service_url(name), "unknown") for name in names}
    if not_up := ", ".join(f"{name} is {view}" for name, view in views.items() if view != UP):
        return not_up
    answer = get(layout.base_port, "/", timeout_seconds=3.0, scheme=layout.scheme, host=layout.public_host)
    if answer is None or answer.status != 200:
        status = answer.status if answer else "nothing"
        return f"a request for {layout.scheme}://{layout.public_host}:{layout.base_port}/ was answered with {status}"
    return None
