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
from deploy.containers.engine import KILL_EXIT_CODES, KILL_THE_PROGRAM, containers
from deploy.containers.status import rows

from .schedule import Planned
from .stack import FaultFailed, raise_without_own_redis, run_to_end, tolerant_context

REDIS_NETWORK = "store"


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
        return self.layout.ws_url

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        return tolerant_context(self.layout)

    async def kill(self, name: str) -> None:
        """The program, not the container: after a `docker kill` the engine would leave it stopped, as asked for."""
        await _docker("exec", await self._container(name), *KILL_THE_PROGRAM, allowed=KILL_EXIT_CODES)

    @asynccontextmanager
    async def frozen(self, name: str) -> AsyncIterator[None]:
        container = await self._container(name)
        async with _undone_after(["pause", container], ["unpause", container]):
            yield

    async def cut_from_redis(self, worker: str) -> None:
        """Its way to Redis is taken down and made anew: what was open leads nowhere."""
        async with self.parted_from_redis(worker):
            pass

    @asynccontextmanager
    async def parted_from_redis(self, worker: str) -> AsyncIterator[None]:
        container, network = await self._container(worker), f"{self.layout.project}_{REDIS_NETWORK}"
        (facts,) = json.loads(await _docker("inspect", container))
        endpoint = facts["NetworkSettings"]["Networks"].get(network)
        if endpoint is None:
            raise FaultFailed(f"{worker} is not in the network {network}: `make restart NAME={worker}` puts it there")
        aliases = (argument for name in endpoint["Aliases"] or () for argument in ("--alias", name))
        async with _undone_after(
            ["network", "disconnect", network, container], ["network", "connect", *aliases, network, container]
        ):
            yield

    @asynccontextmanager
    async def prepared(self, planned: Sequence[Planned]) -> AsyncIterator[None]:
        yield

    async def not_ready(self) -> list[str]:
        return [row.name for row in await asyncio.to_thread(rows, self.layout) if not row.works]

    async def command(self, *arguments: str) -> None:
        await run_to_end(self._root, ["deploy.containers", *arguments], {})

    async def _container(self, name: str) -> str:
        for container in await asyncio.to_thread(containers, self.layout.project):
            if container.service == name and container.state == "running":
                return container.id
        raise FaultFailed(f"{name} does not run")


@asynccontextmanager
async def _undone_after(strike: Sequence[str], undo: Sequence[str]) -> AsyncIterator[None]:
    try:
        await _docker(*strike)
    except asyncio.CancelledError:  # it was done all the same
        await _docker(*undo)
        raise
    try:
        yield
    finally:
        await _docker(*undo)


async def _docker(*arguments: str, allowed: Sequence[int] = (0,)) -> str:
    """Cancelled or not, it waits for the engine: only what has ended can be undone."""
    running = asyncio.ensure_future(_run("docker", *arguments))
    try:
        code, output = await asyncio.shield(running)
    except asyncio.CancelledError:
        await running
        raise
    if code not in allowed:
        raise FaultFailed(f"`docker {' '.join(arguments)}` ended with {code}: {output.strip()}")
    return output


async def _run(*command: str) -> tuple[int | None, str]:
    """The exit code and what was written. A Ctrl-C at the terminal does not reach it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")
