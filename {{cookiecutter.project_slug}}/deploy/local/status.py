"""The table of `ps`: what each process is, and whether it works, in its own view and in Traefik's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil

from deploy.local import balancer, records
from deploy.local.errors import SupervisorGone
from deploy.local.layout import Role
from deploy.local.readiness import unready_reason
from deploy.local.supervision import ProcessState, Supervisor

HEADINGS = ("NAME", "STATE", "PID", "UPTIME", "PORT", "TRAEFIK", "READY")


@dataclass(frozen=True)
class Row:
    name: str
    state: str
    pid: str
    uptime: str
    port: str
    traefik: str
    """UP or DOWN; a dash for what Traefik does not balance over."""
    ready: str
    """"yes", or why not."""

    @property
    def works(self) -> bool:
        return self.ready == "yes" and self.traefik in (balancer.UP, "-")


def rows(root: Path) -> list[Row]:
    """One per process of the stack as it was started; none where nothing runs."""
    record = records.read_stack(root)
    if record is None:
        return []
    layout = record.layout
    states: dict[str, ProcessState] = {}
    with suppress(SupervisorGone):
        states = Supervisor(record.socket).states()
    health = balancer.server_health(layout)
    found = []
    for process in layout.processes:
        alive = records.live_process(root, process.name)
        balanced = process.role in (Role.CHAT, Role.GATEWAY)
        found.append(
            Row(
                name=process.name,
                state=_state(states.get(process.name), alive),
                pid=str(alive.pid) if alive else "-",
                uptime=_uptime(alive),
                port=str(process.port),
                traefik=health.get(process.url, "unknown") if balanced else "-",
                ready=(unready_reason(layout, process) or "yes") if alive else "no",
            )
        )
    return found


def table(found: Sequence[Row]) -> str:
    lines = [HEADINGS, *(astuple(row) for row in found)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _state(state: ProcessState | None, alive: psutil.Process | None) -> str:
    if state is None:
        return "orphan" if alive else "gone"
    if state.refused_settings:
        return "bad settings"
    with suppress(psutil.NoSuchProcess):
        if alive and alive.status() == psutil.STATUS_STOPPED:
            return "frozen"
    return state.state.lower()


def _uptime(process: psutil.Process | None) -> str:
    if process is None:
        return "-"
    minutes, seconds = divmod(max(0, int(time.time() - process.create_time())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
