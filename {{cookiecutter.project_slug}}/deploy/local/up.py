"""Starts what does not run, waits until all is ready, and takes back what it started where that fails."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.local import balancer, down, ports, records, supervision
from deploy.local.errors import PortsTaken, SupervisorGone, WrongState
from deploy.local.launches import write_launches
from deploy.local.layout import HOST, LAST_OFFSET, Layout, Process
from deploy.local.lock import exclusive
from deploy.local.readiness import ReadinessWait
from deploy.local.supervision import Supervisor

START_SECONDS = 60
# Many interpreters that start at once share few cores.
START_SECONDS_PER_WORKER = 2
SUPERVISORD_SECONDS = 10

Say = Callable[[str], None]


def up(layout: Layout, say: Say) -> None:
    """Raises `StackError`; what this call started is stopped then, as on Ctrl-C."""
    layout.make_folders()
    with exclusive(layout.root):
        record = records.read_stack(layout.root)
        if record and (supervisor := Supervisor(record.socket)).answers():
            _raise_if_different(layout, record.layout)
            _start_missing(record.layout, supervisor, say)
        else:
            if record:
                say("supervisord is gone; stopping what it left behind.")
                down.stop_everything(layout.root, say)
            _start_all(layout, say)
        _tell_where(layout, say)


def restart(root: Path, name: str, say: Say) -> None:
    """Stops one process, which drains, starts it again and waits until it is ready. Raises `StackError`."""
    record = records.read_stack(root)
    if not record or not (supervisor := Supervisor(record.socket)).answers():
        raise WrongState("Nothing runs here. `make up` starts the stack.")
    by_name = {process.name: process for process in record.layout.processes}
    if name not in by_name:
        raise WrongState(f"There is no process {name!r}, only: {' '.join(by_name)}")
    with exclusive(root):
        say(f"Stopping {name}")
        down.stop_by_supervisor(root, supervisor, [by_name[name]])
        say(f"Starting {name}")
        _start(record.layout, supervisor, [by_name[name]], say)


def _raise_if_different(asked: Layout, running: Layout) -> None:
    if (asked.base_port, asked.workers) != (running.base_port, running.workers):
        raise WrongState(
            f"The stack runs already, on port {running.base_port} with {running.workers} chat workers; asked for was "
            f"port {asked.base_port} with {asked.workers}. `make down` first, or ask for what runs."
        )


def _start_missing(layout: Layout, supervisor: Supervisor, say: Say) -> None:
    states = supervisor.states()
    missing = [process for process in layout.processes if not states[process.name].runs]
    if not missing:
        say("Already running.")
    else:
        say(f"Already running, except {', '.join(process.name for process in missing)}: starting that.")
    try:
        _start(layout, supervisor, missing, say)
    except BaseException:
        if missing:
            say("Stopping what was started.")
            with _undisturbed():
                down.stop_by_supervisor(layout.root, supervisor, missing)
        raise
    wait = _wait(layout, supervisor, lambda _: None)
    wait.until_ready(layout.processes)
    wait.until_balanced()


def _start_all(layout: Layout, say: Say) -> None:
    socket = supervision.socket_path(layout)
    write_launches(layout)
    if taken := ports.taken_ports(layout.ports):
        raise PortsTaken(taken, ports.next_free_base(layout.base_port, LAST_OFFSET))
    supervision.make_socket_folder(socket)
    supervision.write_configuration(layout, socket)
    balancer.write_static(layout)
    balancer.write_dynamic(layout, layout.gateways, layout.chat_workers)
    records.write_stack(layout, socket)
    say(f"Starting {len(layout.processes)} processes; {layout.workers} chat workers, ports from {layout.base_port}.")
    try:
        supervisor = _start_supervisord(layout, socket)
        # A worker is ready only when it hears the log: Redis before all others.
        _start(layout, supervisor, [layout.redis], say)
        wait = _start(layout, supervisor, layout.processes[1:], say)
        wait.until_balanced()
    except BaseException:
        say("Stopping what was started.")
        with _undisturbed():
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
    return ReadinessWait(layout, supervisor, say, START_SECONDS + START_SECONDS_PER_WORKER * layout.workers)


class _undisturbed:
    """A second Ctrl-C must not leave half of it running."""

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _tell_where(layout: Layout, say: Say) -> None:
    say(f"""
Ready.
  chat      http://{HOST}:{layout.web_port}/   (WebSocket: ws://{HOST}:{layout.web_port}/ws)
  balancer  http://{HOST}:{layout.traefik_port}/dashboard/   (metrics: http://{HOST}:{layout.traefik_port}/metrics)
  logs      {layout.log_dir}   (make logs)
  state     make ps
  stop      make down""")
