"""`ContainerStack`: the containers of this machine, struck by their engine: killed, paused, taken off a network."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.containers import up
from deploy.containers.engine import containers
from deploy.containers.readiness import public_host
from deploy.containers.status import rows

from .schedule import Planned
from .stack import FaultFailed, raise_without_own_redis, run_to_end, tolerant_context

REDIS_NETWORK = "store"
KILLED = 137


class ContainerStack:
    """Implements `Stack`. Raises `StackError` where there is nothing to strike."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.layout = up.running(root)
        raise_without_own_redis(self.layout)
        self.workers = self.layout.worker_names
        self.gateways = self.layout.gateway_names

    @property
    def url(self) -> str:
        return f"{'wss' if self.layout.tls else 'ws'}://{public_host(self.layout)}:{self.layout.base_port}/ws"

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        return tolerant_context(self.layout)

    async def kill(self, name: str) -> None:
        """The program, not the container: after a `docker kill` the engine would leave it stopped, as asked for."""
        # The first process of a container is its init; it ends with its child, and the container with it.
        kill = "kill -9 $(cat /proc/1/task/1/children)"
        await _docker("exec", self._container(name), "sh", "-c", kill, allowed=(0, KILLED))

    @asynccontextmanager
    async def frozen(self, name: str) -> AsyncIterator[None]:
        container = self._container(name)
        await _docker("pause", container)
        try:
            yield
        finally:
            await _docker("unpause", container)

    async def cut_from_redis(self, worker: str) -> None:
        """Its way to Redis is taken down and made anew: what was open leads nowhere."""
        async with self.parted_from_redis(worker):
            pass

    @asynccontextmanager
    async def parted_from_redis(self, worker: str) -> AsyncIterator[None]:
        container, network = self._container(worker), f"{self.layout.project}_{REDIS_NETWORK}"
        (facts,) = json.loads(await _docker("inspect", container))
        names = facts["NetworkSettings"]["Networks"][network]["Aliases"] or ()
        await _docker("network", "disconnect", network, container)
        try:
            yield
        finally:
            aliases = (argument for name in names for argument in ("--alias", name))
            await _docker("network", "connect", *aliases, network, container)

    @asynccontextmanager
    async def prepared(self, planned: Sequence[Planned]) -> AsyncIterator[None]:
        yield

    async def not_ready(self) -> list[str]:
        return [row.name for row in await asyncio.to_thread(rows, self.layout) if not row.works]

    async def command(self, *arguments: str) -> None:
        await run_to_end(self._root, ["deploy.containers", *arguments], {})

    def _container(self, name: str) -> str:
        for container in containers(self.layout.project):
            if container.service == name and container.state == "running":
                return container.id
        raise FaultFailed(f"{name} does not run")


async def _docker(*arguments: str, allowed: Sequence[int] = (0,)) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    output, _ = await process.communicate()
    if process.returncode not in allowed:
        raise FaultFailed(f"`docker {' '.join(arguments)}` ended with {process.returncode}: {output.decode().strip()}")
    return output.decode()
