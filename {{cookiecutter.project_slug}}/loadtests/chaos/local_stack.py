"""`LocalStack`: the processes of this machine, struck with signals. Root is not needed."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
from redis.asyncio import Redis

from deploy.errors import WrongState
from deploy.local import records, up
from deploy.local.status import rows
from deploy.notes import read_json, write_json
from deploy.probe import HOST

from .detour import Detour, open_detour
from .schedule import FaultName, Planned
from .stack import FaultFailed, raise_without_own_redis, run_to_end, tolerant_context


class LocalStack:
    """Implements `Stack`. Raises `StackError` where there is nothing to strike."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            self.layout = up.running(root).layout
        except WrongState:
            raise WrongState("No stack runs here, and only a running one is struck. `make up` starts one.") from None
        raise_without_own_redis(self.layout)
        self.workers = [process.name for process in self.layout.chat_workers]
        self.gateways = [process.name for process in self.layout.gateway_processes]
        self._detour: Detour | None = None
        """Of the worker that can be parted from Redis."""

    @property
    def url(self) -> str:
        return self.layout.ws_url

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        return tolerant_context(self.layout)

    async def kill(self, name: str) -> None:
        self._process(name).send_signal(signal.SIGKILL)

    @asynccontextmanager
    async def frozen(self, name: str) -> AsyncIterator[None]:
        process = self._process(name)
        process.suspend()
        try:
            yield
        finally:
            process.resume()

    async def cut_from_redis(self, worker: str) -> None:
        """`CLIENT KILL` for each connection."""
        addresses = {
            (connection.laddr.ip, connection.laddr.port)
            for connection in self._process(worker).net_connections("tcp")
            if connection.raddr and connection.raddr.port == self.layout.redis_port
        }
        if not addresses and self._detour is not None:
            addresses = set(self._detour.exits)
        redis = Redis(host=HOST, port=self.layout.redis_port, password=self.layout.redis_password)
        try:
            killed = [int(await redis.client_kill_filter(addr=f"{host}:{port}")) for host, port in addresses]
        finally:
            await redis.aclose()
        if not sum(killed):
            raise FaultFailed(f"{worker} had no connection to Redis")

    @asynccontextmanager
    async def parted_from_redis(self, worker: str) -> AsyncIterator[None]:
        if self._detour is None or not self._detour.exits:
            raise FaultFailed(f"{worker} does not reach Redis by the way that can be blocked")
        self._detour.block()
        try:
            yield
        finally:
            self._detour.unblock()

    @asynccontextmanager
    async def prepared(self, planned: Sequence[Planned]) -> AsyncIterator[None]:
        """Lead the worker that will be parted from Redis by a way that can be blocked."""
        worker = next((one.target for one in planned if one.fault is FaultName.PARTITION_WORKER), None)
        if worker is None:
            yield
            return
        async with open_detour(self.layout.redis_port) as self._detour:
            self._redirect(worker, self._detour.port)
            try:
                await self.command("restart", worker)
                yield
            finally:
                self._redirect(worker, self.layout.redis_port)
                await self.command("restart", worker)
                self._detour = None

    async def not_ready(self) -> list[str]:
        return [row.name for row in await asyncio.to_thread(rows, self._root) if not row.works]

    async def command(self, *arguments: str) -> None:
        settings = {"CHAT_PORT": str(self.layout.base_port), "CHAT_WORKERS": str(self.layout.workers)}
        await run_to_end(self._root, ["deploy.local", *arguments], settings)

    def _process(self, name: str) -> psutil.Process:
        process = records.live_process(self._root, name)
        if process is None:
            raise FaultFailed(f"{name} does not run")
        return process

    def _redirect(self, worker: str, redis_port: int) -> None:
        """From its next start on, a worker looks for Redis at this port."""
        path = self.layout.run_dir / f"{worker}.json"
        launch = read_json(path)
        parts = urlsplit(launch["environment"]["CHAT_BROKER_URL"])
        login = parts.netloc.rpartition("@")[0]
        launch["environment"]["CHAT_BROKER_URL"] = urlunsplit(parts._replace(netloc=f"{login}@{HOST}:{redis_port}"))
        write_json(path, launch)
