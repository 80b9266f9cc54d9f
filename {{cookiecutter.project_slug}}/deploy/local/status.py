"""The rows of `ps` for processes under supervision."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.errors import SupervisorGone
from deploy.local import records
from deploy.local.readiness import unready_reason
from deploy.local.supervision import ProcessState, Supervisor
from deploy.status import Row, uptime


def rows(root: Path) -> list[Row]:
    """One per process of the stack as it was started; none where nothing runs."""
    record = records.read_stack(root)
    if record is None:
        return []
    layout = record.layout
    states: dict[str, ProcessState] = {}
    with suppress(SupervisorGone):
        states = Supervisor(record.socket).states()
    health = layout.balancer.health()
    found = []
    for process in layout.processes:
        alive = records.live_process(root, process.name)
        found.append(
            Row(
                name=process.name,
                state=_state(states.get(process.name), alive),
                pid=str(alive.pid) if alive else "-",
                uptime=uptime(time.time() - alive.create_time()) if alive else "-",
                port=str(process.port),
                traefik=health.get(process.url, "unknown") if process.is_balanced else "-",
                ready=(unready_reason(layout, process) or "yes") if alive else "no",
            )
        )
    return found


def _state(state: ProcessState | None, alive: psutil.Process | None) -> str:
    if state is None:
        return "orphan" if alive else "gone"
    if state.refused_settings:
        return "bad settings"
    with suppress(psutil.NoSuchProcess):
        if alive and alive.status() == psutil.STATUS_STOPPED:
            return "frozen"
    return state.state.lower()
