"""Writes what each process needs to start: its command and environment, and the Redis configuration.

Passwords go into files of mode 600 under `var/run`; a command line can be read by everybody.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from deploy.local import binaries
from deploy.local.layout import Layout, Process, Role
from deploy.local.records import SUPERVISORD
from deploy.notes import read_json, write_json, write_private
from deploy.probe import HOST
from deploy.redis_configuration import redis_configuration


def write_launches(layout: Layout) -> None:
    """For supervisord and every process of the stack. Raises `ProgramMissing`."""
    redis, traefik = binaries.find_redis(), binaries.find_traefik()
    configuration = _write_redis_configuration(layout)
    _write(layout, layout.redis.name, [str(redis), str(configuration)], {})
    _write(layout, layout.traefik.name, [str(traefik), f"--configfile={layout.balancer.static_path}"], {})
    for process in (*layout.gateway_processes, *layout.chat_workers):
        write_service_launch(layout, process)
    supervisord = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--configuration"]
    _write(layout, SUPERVISORD, [*supervisord, str(layout.run_dir / "supervisord.conf")], {})


def write_service_launch(layout: Layout, process: Process) -> None:
    """For one gateway or chat worker."""
    _write(
        layout,
        process.name,
        [sys.executable, "-m", f"{layout.package}.{process.role}"],
        _service_environment(layout, process),
    )


def write_launch_like(layout: Layout, process: Process, sibling: Process) -> None:
    """For one more worker of a running stack: with the environment that its sibling was started with."""
    launch = read_json(layout.run_dir / f"{sibling.name}.json")
    own = {"CHAT_BIND_PORT": str(process.port), "CHAT_WORKER_NAME": process.name}
    _write(layout, process.name, launch["command"], launch["environment"] | own)


def _service_environment(layout: Layout, process: Process) -> dict[str, str]:
    source = str(layout.root / "src")
    # A proxy for the outer world must not be asked for the way from the gateway to the workers.
    direct = ",".join(filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost"]))
    environment = {name: value for name, value in os.environ.items() if name.startswith("CHAT_")} | {
        "CHAT_HOST": HOST,
        "CHAT_BIND_PORT": str(process.port),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    environment["CHAT_BROKER_URL"] = layout.channel_url
    if process.role is Role.CHAT:
        environment["CHAT_WORKER_NAME"] = process.name
    else:
        environment |= {
            "CHAT_REDIS_URL": layout.redis_url,
            "CHAT_WORKERS_URL": f"ws://{HOST}:{layout.workers_port}/ws",
        }
    return environment


def _write_redis_configuration(layout: Layout) -> Path:
    """The default user keeps all rights here, for whoever looks into Redis by hand; the service does not use it."""
    path = layout.run_dir / "redis.conf"
    # The folder is relative to the project, where all processes start. Redis reads the escapes of JSON within ASCII.
    own = [f"bind {HOST}", f"port {layout.redis_port}", "dir var/redis"]
    own.append(f"requirepass {json.dumps(layout.redis_password)}")
    write_private(path, redis_configuration(layout.redis_password, own))
    return path


def _write(layout: Layout, name: str, command: list[str], environment: dict[str, str]) -> None:
    write_json(layout.run_dir / f"{name}.json", {"command": command, "environment": environment})
