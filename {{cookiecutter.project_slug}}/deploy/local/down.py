"""Stops the stack, also what is left of it, and makes sure that nothing remains. Data and logs stay."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.errors import StackError, SupervisorGone
from deploy.local import ports, records
from deploy.local.layout import Process, Role
from deploy.local.records import StackRecord
from deploy.local.supervision import Supervisor
from deploy.lock import exclusive
from deploy.say import Say

# Gateways first: they send the clients away and with that empty the workers. Redis last: what the workers still have
# to say must be written down.
WAVES = (Role.GATEWAY, Role.CHAT, Role.TRAEFIK, Role.REDIS)
POLL_SECONDS = 0.05
# supervisord kills what does not end in its time; it needs a moment for that.
GRACE_SECONDS = 5


def down(root: Path, say: Say) -> None:
    """Raises `StackError` where something remains."""
    if records.read_stack(root) is None and not records.live_processes(root):
        say("Nothing runs.")
        return
    with exclusive(root):
        stop_everything(root, say)
        say("Stopped: no process and no port is left. The data stays in var/ (make clean removes it).")


def stop_everything(root: Path, say: Say) -> None:
    """Raises `StackError` where something remains."""
    record = records.read_stack(root)
    # After a reboot nothing of it lives, and its ports may be somebody else's.
    ours = record.layout.ports if record and records.live_processes(root) else {}
    _resume_frozen(root)
    if record:
        supervisor = Supervisor(record.socket)
        with suppress(SupervisorGone):
            for role in WAVES:
                say(f"Stopping {role}")
                stop_by_supervisor(root, supervisor, [p for p in record.layout.processes if p.role is role])
            supervisor.shutdown()
    _stop_by_pids(root, record, say)
    _raise_if_something_remains(root, ours)
    records.forget(root)
    if record and not record.socket.is_relative_to(root):
        shutil.rmtree(record.socket.parent, ignore_errors=True)


def stop_by_supervisor(root: Path, supervisor: Supervisor, processes: Iterable[Process]) -> None:
    """Together, and returns when they have ended. Raises `SupervisorGone`."""
    known = supervisor.states()
    waiting = {process.name: process for process in processes if process.name in known}
    for name in waiting:
        _wait_until_launched(root, supervisor, name)
        supervisor.stop(name)
    patience = max((process.stop_seconds for process in waiting.values()), default=0)
    deadline = time.monotonic() + patience + GRACE_SECONDS
    while waiting:
        states = supervisor.states()
        for name in [name for name in waiting if states[name].stopped]:
            del waiting[name]
        if time.monotonic() > deadline:
            raise SupervisorGone(f"supervisord could not stop {', '.join(waiting)}")
        time.sleep(POLL_SECONDS if waiting else 0)


def _wait_until_launched(root: Path, supervisor: Supervisor, name: str) -> None:
    """Until then a child of supervisord 4.3 still has its signal handlers: a SIGTERM would get lost with them."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (state := supervisor.states()[name]).runs and time.monotonic() < deadline:
        process = records.live_process(root, name)
        if process and process.pid == state.pid:
            return
        time.sleep(POLL_SECONDS)


def _resume_frozen(root: Path) -> None:
    """A process that was stopped by SIGSTOP would not hear that it shall end."""
    for process in records.live_processes(root).values():
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                process.resume()


def _stop_by_pids(root: Path, record: StackRecord | None, say: Say) -> None:
    """What supervisord did not stop, because it is gone or does not answer; and supervisord itself, first of all."""
    _end(root, [records.SUPERVISORD], GRACE_SECONDS)
    for role in WAVES:
        known = [process for process in record.layout.processes if process.role is role] if record else []
        left = [process.name for process in known if records.live_process(root, process.name)]
        if left:
            say(f"Stopping {', '.join(left)}, which supervisord left behind")
            _end(root, left, max(process.stop_seconds for process in known))
    _end(root, records.live_processes(root), GRACE_SECONDS)


def _end(root: Path, names: Iterable[str], seconds: float) -> None:
    """SIGTERM, and SIGKILL to what is left after `seconds`."""
    alive = {name: process for name in names if (process := records.live_process(root, name))}
    for send, patience in ((psutil.Process.terminate, seconds), (psutil.Process.kill, GRACE_SECONDS)):
        for process in alive.values():
            with suppress(psutil.NoSuchProcess):
                send(process)
        deadline = time.monotonic() + patience
        while alive and time.monotonic() < deadline:
            alive = {name: process for name, process in alive.items() if records.live_process(root, name)}
            time.sleep(POLL_SECONDS if alive else 0)


def _raise_if_something_remains(root: Path, port_purposes: Mapping[int, str]) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        alive = records.live_processes(root)
        taken = ports.taken_ports(port_purposes)
        if not alive and not taken:
            return
        if time.monotonic() > deadline:
            lines = [f"{name} (pid {process.pid}) still lives." for name, process in alive.items()]
            raise StackError("\n".join([*lines, *map(str, taken)]))
        time.sleep(POLL_SECONDS)
