"""Starts what does not run, waits until all is ready, and takes back what it started where that fails."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.errors import PortsTaken, SupervisorGone, WrongState
from deploy.interrupts import undisturbed
from deploy.local import down, ports, records, supervision
from deploy.local.fleet import LocalFleet
from deploy.local.launches import write_launches
from deploy.local.layout import LAST_OFFSET, Layout, Process, Role
from deploy.local.readiness import ReadinessWait, start_seconds
from deploy.local.records import StackRecord
from deploy.local.supervision import Supervisor
from deploy.lock import exclusive
from deploy.probe import HOST
from deploy.rolling import restart_one
from deploy.say import Say
from deploy.settings import raise_if_different

SUPERVISORD_SECONDS = 10


def up(layout: Layout, environment: Mapping[str, str], say: Say) -> None:
    """Raises `StackError`; what this call started is stopped then, as on Ctrl-C."""
    layout.make_folders()
    with exclusive(layout.root):
        record = records.read_stack(layout.root)
        if record and (supervisor := Supervisor(record.socket)).answers():
            raise_if_different(layout, record.layout, environment)
            _start_missing(record, supervisor, say)
            layout = record.layout
        else:
            if record:
                say("supervisord is gone; stopping what it left behind.")
                down.stop_everything(layout.root, say)
            _start_all(layout, say)
        _tell_where(layout, say)


def restart(root: Path, name: str, say: Say) -> None:
    """Stops one process, which drains, starts it again and waits until it is ready. Raises `StackError`."""
    with exclusive(root):
        record = running(root)
        layout, supervisor = record.layout, Supervisor(record.socket)
        by_name = {process.name: process for process in layout.processes}
        if name not in by_name:
            raise WrongState(f"There is no process {name!r}, only: {' '.join(by_name)}")
        if by_name[name].role is Role.CHAT:
            restart_one(LocalFleet(record), name, say)
        else:
            say(f"Stopping {name}")
            down.stop_by_supervisor(root, supervisor, [by_name[name]])
            say(f"Starting {name}")
            _start(layout, supervisor, [by_name[name]], say)
        _wait(layout, supervisor, say).until_balanced()


def running(root: Path) -> StackRecord:
    """Raises `WrongState` where nothing runs."""
    record = records.read_stack(root)
    if not record or not Supervisor(record.socket).answers():
        raise WrongState("Nothing runs here. `make up` starts the stack.")
    return record


def _start_missing(record: StackRecord, supervisor: Supervisor, say: Say) -> None:
    layout = record.layout
    supervision.write_configuration(layout, record.socket)
    supervisor.follow_configuration()
    states = supervisor.states()
    missing = [process for process in layout.processes if not states[process.name].runs]
    if not missing:
        say("Already running.")
    else:
        say(f"Already running, except {', '.join(process.name for process in missing)}: starting that.")
    try:
        # After an interrupted restart one may still be stopping: until it has ended, it cannot be started.
        down.stop_by_supervisor(layout.root, supervisor, missing)
        _start(layout, supervisor, missing, say)
    except BaseException:
        if missing:
            with undisturbed():
                say("Stopping what was started.")
                down.stop_by_supervisor(layout.root, supervisor, missing)
        raise
    wait = _wait(layout, supervisor, lambda _: None)
    wait.until_ready(layout.processes)
    # A command that was interrupted may have left a worker out.
    _write_dynamic(layout)
    wait.until_balanced()


def _start_all(layout: Layout, say: Say) -> None:
    socket = supervision.socket_path(layout)
    write_launches(layout)
    if taken := ports.taken_ports(layout.ports):
        raise PortsTaken(taken, ports.next_free_base(layout.base_port, LAST_OFFSET))
    supervision.make_socket_folder(socket)
    supervision.write_configuration(layout, socket)
    layout.balancer.write_static()
    _write_dynamic(layout)
    records.write_stack(layout, socket)
    say(f"Starting {len(layout.processes)} processes; {layout.workers} chat workers, ports from {layout.base_port}.")
    try:
        supervisor = _start_supervisord(layout, socket)
        # A worker is ready only when it hears the log: Redis before all others.
        _start(layout, supervisor, [layout.redis], say)
        wait = _start(layout, supervisor, layout.processes[1:], say)
        wait.until_balanced()
    except BaseException:
        with undisturbed():
            say("Stopping what was started.")
            down.stop_everything(layout.root, lambda _: None)
        raise


def _start_supervisord(layout: Layout, socket: Path) -> Supervisor:
    child = supervision.start_supervisord(layout)
    try:
        supervisor = Supervisor(socket)
        deadline = time.monotonic() + SUPERVISORD_SECONDS
        while not supervisor.answers():
            if child.poll() is not None or time.monotonic() > deadline:
                output = (layout.log_dir / f"{records.SUPERVISORD}.out").read_text("utf-8", "replace")
                raise SupervisorGone(f"supervisord did not start:\n{output[-2000:]}")
            time.sleep(0.05)
    except BaseException:
        # It has started nothing yet, and may not have noted its pid.
        child.kill()
        child.wait()
        raise
    return supervisor


def _start(layout: Layout, supervisor: Supervisor, processes: Sequence[Process], say: Say) -> ReadinessWait:
    wait = _wait(layout, supervisor, say)
    for process in processes:
        supervisor.start(process.name)
    wait.until_ready(processes)
    return wait


def _wait(layout: Layout, supervisor: Supervisor, say: Say) -> ReadinessWait:
    return ReadinessWait(layout, supervisor, say, start_seconds(layout))


def _write_dynamic(layout: Layout) -> None:
    gateways, workers = layout.gateway_processes, layout.chat_workers
    layout.balancer.write_dynamic([process.url for process in gateways], [process.url for process in workers])


def _tell_where(layout: Layout, say: Say) -> None:
    say(f"""
Ready.
  chat      {layout.scheme}://{HOST}:{layout.web_port}/   (WebSocket: {layout.ws_url})
  balancer  http://{HOST}:{layout.traefik_port}/dashboard/   (metrics: http://{HOST}:{layout.traefik_port}/metrics)
  logs      {layout.log_dir}   (make logs)
  state     make ps
  stop      make down""")
