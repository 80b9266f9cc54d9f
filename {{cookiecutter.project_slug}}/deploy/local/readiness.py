"""Asks each process whether it is ready, and waits until all are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from deploy.balancer import UP
from deploy.errors import QUOTED_LINES, ProcessFailed
from deploy.local.layout import Layout, Process, Role
from deploy.local.supervision import Supervisor
from deploy.probe import HOST, get
from deploy.say import Say

START_SECONDS = 60
# Many interpreters that start at once share few cores.
START_SECONDS_PER_WORKER = 2
POLL_SECONDS = 0.1


def unready_reason(layout: Layout, process: Process) -> str | None:
    """What the process itself says; None when it is ready."""
    if process.role is Role.REDIS:
        return _redis_reason(layout)
    answer = get(process.port, "/ping" if process.role is Role.TRAEFIK else "/readyz")
    if answer is None:
        return "does not answer"
    if answer.status == 200:
        return None
    try:
        return str(json.loads(answer.body)["reason"])
    except (ValueError, KeyError, TypeError):
        return f"answers {answer.status}"


def _redis_reason(layout: Layout) -> str | None:
    client = Redis(
        host=HOST,
        port=layout.redis_port,
        password=layout.redis_password,
        socket_timeout=1,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    except RedisError as error:
        return str(error)
    finally:
        client.close()
    return None


def balanced_reason(layout: Layout) -> str | None:
    """A real request through each entry point; None when both are answered."""
    ways = (
        (layout.scheme, layout.web_port, "/", "a gateway"),
        ("http", layout.workers_port, "/readyz", "a worker"),
    )
    for scheme, port, path, behind in ways:
        answer = get(port, path, timeout_seconds=3.0, scheme=scheme)
        if answer is None or answer.status != 200:
            status = answer.status if answer else "nothing"
            return f"a request through it to {behind}, {scheme}://{HOST}:{port}{path}, was answered with {status}"
    return None


def start_seconds(layout: Layout) -> float:
    """How long processes may take until they are ready."""
    return START_SECONDS + START_SECONDS_PER_WORKER * layout.workers


class ReadinessWait:
    """Made before the processes are started, so that it can tell what they wrote since."""

    def __init__(self, layout: Layout, supervisor: Supervisor, say: Say, seconds: float) -> None:
        self._layout, self._supervisor, self._say = layout, supervisor, say
        self._started = time.monotonic()
        self._seconds = seconds
        self._log_sizes = {process.name: _size(layout.log_path(process.name)) for process in layout.processes}
        self._pids: dict[str, int] = {}

    def until_ready(self, processes: Iterable[Process]) -> None:
        """By their own word. Raises `ProcessFailed`."""
        waiting = {process.name: process for process in processes}
        while waiting:
            self._raise_if_one_ended(waiting)
            for process in list(waiting.values()):
                reason = unready_reason(self._layout, process)
                if reason is None:
                    self._say(f"  {process.name} is ready ({self._elapsed():.1f} s)")
                    del waiting[process.name]
                elif self._elapsed() > self._seconds:
                    raise self._failure(process.name, f"is not ready after {self._seconds:.0f} s ({reason})")
            time.sleep(POLL_SECONDS if waiting else 0)

    def until_balanced(self) -> None:
        """All gateways and workers are up in Traefik's view, and requests reach them. Raises `ProcessFailed`."""
        while reason := _balancer_reason(self._layout) or balanced_reason(self._layout):
            if self._elapsed() > self._seconds:
                raise self._failure(self._layout.traefik.name, f"does not balance: {reason}")
            time.sleep(POLL_SECONDS)
        self._say(f"  requests pass through Traefik ({self._elapsed():.1f} s)")

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _raise_if_one_ended(self, waiting: Mapping[str, Process]) -> None:
        states = self._supervisor.states()
        for name in waiting:
            state = states[name]
            if state.refused_settings:
                raise self._failure(name, f"refused its settings (exit code {state.exit_status}), nothing restarts it")
            if not state.runs:
                raise self._failure(name, f"ended while it started (exit code {state.exit_status})")
            if self._pids.setdefault(name, state.pid) != state.pid:
                raise self._failure(name, "ended while it started, and was restarted")

    def _failure(self, name: str, reason: str) -> ProcessFailed:
        log = self._layout.log_path(name)
        since_start = self._log_sizes[name] if _size(log) >= self._log_sizes[name] else 0
        lines: list[str] = []
        if log.exists():
            with log.open("rb") as file:
                file.seek(since_start)
                lines = file.read().decode("utf-8", "replace").splitlines()[-QUOTED_LINES:]
        return ProcessFailed(name, reason, log, lines)


def _balancer_reason(layout: Layout) -> str | None:
    health = layout.balancer.health()
    views = {process.name: health.get(process.url, "unknown") for process in layout.processes if process.is_balanced}
    return ", ".join(f"{name} is {view}" for name, view in views.items() if view != UP) or None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
