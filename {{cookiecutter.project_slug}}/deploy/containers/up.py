"""Starts what does not run, waits until all is ready, and takes back what it started where that fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from deploy.containers import readiness
from deploy.containers.compose import Compose
from deploy.containers.engine import containers
from deploy.containers.files import copy_certificate, write_files, write_servers, write_service_settings
from deploy.containers.fleet import ContainerFleet
from deploy.containers.layout import (
    GRAFANA_OFFSET,
    ContainerLayout,
    read_record,
    record_path,
    service_url,
    write_record,
)
from deploy.errors import PortsTaken, WrongState
from deploy.interrupts import undisturbed
from deploy.local import ports
from deploy.lock import exclusive
from deploy.probe import HOST
from deploy.rolling import restart_one
from deploy.say import Say
from deploy.settings import raise_if_different

BALANCE_SECONDS = 60


def up(layout: ContainerLayout, environment: Mapping[str, str], say: Say) -> None:
    """Raises `StackError`; what this call started is stopped then, as on Ctrl-C."""
    with exclusive(layout.root):
        if record := read_record(layout.root):
            raise_if_different(layout, record, environment)
            _start_missing(record, say)
            layout = record
        else:
            _start_all(layout, say)
        _tell_where(layout, say)


def down(root: Path, say: Say, *, volumes: bool = False) -> None:
    """Gateways first: they send the clients away and with that empty the workers. Redis last, with the rest."""
    with exclusive(root):
        layout = running(root)
        _stop_everything(layout, say, volumes=volumes)
        say("Stopped." if volumes else "Stopped. The data stays in the volumes (make clean removes them).")


def restart(root: Path, name: str, say: Say) -> None:
    """One service, from the image as it is now. Raises `StackError`."""
    with exclusive(root):
        layout = running(root)
        if name not in layout.services:
            raise WrongState(f"There is no service {name!r}, only: {' '.join(layout.services)}")
        if name in layout.worker_names:
            restart_one(ContainerFleet(layout), name, say)
        else:
            say(f"Restarting {name}")
            write_service_settings(layout)
            copy_certificate(layout)
            readiness.start(layout, [name], recreate=True)
        readiness.wait_until_balanced(layout, say, BALANCE_SECONDS)


def build(layout: ContainerLayout, say: Say) -> None:
    """What is started from now on is made of the sources as they are now."""
    say("Building the image")
    Compose(layout).build("chat-1")


def running(root: Path) -> ContainerLayout:
    """Raises `WrongState` where nothing runs."""
    layout = read_record(root)
    if layout is None:
        raise WrongState("Nothing runs here. `make up` starts the stack.")
    return layout


def _start_missing(layout: ContainerLayout, say: Say) -> None:
    """What runs is not touched, also where its image or its settings changed: `make rolling-restart` is for that."""
    found = {container.service: container for container in containers(layout.project)}
    missing = [name for name in layout.services if name not in found or readiness.state_reason(found[name])]
    if missing:
        say(f"Already running, except {', '.join(missing)}: seeing to that.")
    else:
        say("Already running.")
    write_servers(layout)
    if ended := [name for name in missing if name not in found or found[name].state != "running"]:
        # The command that began with all of it may have ended before there was an image.
        build(layout, say)
    for name in ended:
        readiness.start(layout, [name], recreate=False)
    readiness.wait_until_healthy(layout, layout.services)
    # A command that was interrupted may have left a worker out.
    layout.balancer.write_dynamic(map(service_url, layout.gateway_names), map(service_url, layout.worker_names))
    readiness.wait_until_balanced(layout, say, BALANCE_SECONDS)


def _start_all(layout: ContainerLayout, say: Say) -> None:
    _raise_if_somebody_elses(layout)
    if taken := ports.taken_ports(layout.ports):
        raise PortsTaken(taken, ports.next_free_base(layout.base_port, GRAFANA_OFFSET))
    write_files(layout)
    write_record(layout)
    try:
        build(layout, say)
        say(f"Starting {len(layout.services)} containers; {layout.workers} chat workers, port {layout.base_port}.")
        readiness.start(layout, [], recreate=False)
        say("  all containers are healthy")
        readiness.wait_until_balanced(layout, say, BALANCE_SECONDS)
    except BaseException:
        with undisturbed():
            say("Stopping what was started.")
            _stop_everything(layout, lambda _: None)
        raise


def _raise_if_somebody_elses(layout: ContainerLayout) -> None:
    """Two projects of one name would replace each other's containers, and share their data."""
    folders = {container.folder for container in containers(layout.project)} - {str(layout.root), ""}
    if folders:
        raise WrongState(
            f"Containers of the name {layout.project!r} belong to {', '.join(sorted(folders))}. Stop them there, or "
            "give this project another name: COMPOSE_PROJECT_NAME=... in .env"
        )


def _stop_everything(layout: ContainerLayout, say: Say, *, volumes: bool = False) -> None:
    compose = Compose(layout)
    there = {container.service for container in containers(layout.project)}
    for what, names in (("gateway", layout.gateway_names), ("chat", layout.worker_names)):
        if present := [name for name in names if name in there]:
            say(f"Stopping {what}")
            compose.stop(*present)
    say("Stopping the rest")
    compose.down(volumes=volumes)
    record_path(layout.root).unlink(missing_ok=True)


def _tell_where(layout: ContainerLayout, say: Say) -> None:
    say(f"""
Ready.
  chat      {layout.scheme}://{layout.public_host}:{layout.base_port}/   (WebSocket: {layout.ws_url})
  balancer  http://{HOST}:{layout.operator_port}/dashboard/   (metrics: http://{HOST}:{layout.operator_port}/metrics)
  logs      make logs
  state     make ps
  stop      make down""")
