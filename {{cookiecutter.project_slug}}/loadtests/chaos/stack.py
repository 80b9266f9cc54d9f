"""`Stack`: the local processes that run, as the faults need them."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil
from redis.asyncio import Redis

from deploy.errors import WrongState
from deploy.local import records, up
from deploy.local.status import rows
from deploy.notes import read_json, write_json
from deploy.probe import HOST

POLL_SECONDS = 0.1


class FaultFailed(Exception):
    """A fault could not be brought about: the run says nothing about it."""


class Stack:
    """Raises `StackError` where there is nothing to strike."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            self.layout = up.running(root).layout
        except WrongState:
            how = "`make up RUNTIME=local` starts one."
            raise WrongState(f"No stack runs as processes of this machine, and only those are struck. {how}") from None
        if self.layout.broker_url:
            raise WrongState("The workers do not use the stack's own Redis: there is nothing here to strike.")
        self.workers = [process.name for process in self.layout.chat_workers]
        self.gateways = [process.name for process in self.layout.gateway_processes]

    @property
    def url(self) -> str:
        return self.layout.ws_url

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        """Takes any certificate: it is for the public name of the service."""
        if not self.layout.tls:
            return None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def process(self, name: str) -> psutil.Process:
        """Raises `FaultFailed` where it does not live."""
        process = records.live_process(self._root, name)
        if process is None:
            raise FaultFailed(f"{name} does not run")
        return process

    def kill(self, name: str) -> None:
        """SIGKILL. supervisord starts it again."""
        self.process(name).send_signal(signal.SIGKILL)

    async def until_ready(self, seconds: float) -> list[str]:
        """Wait until every process works, in Traefik's view too. The names of those that do not."""
        deadline = time.monotonic() + seconds
        while idle := [row.name for row in await asyncio.to_thread(rows, self._root) if not row.works]:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
        return idle

    async def command(self, *arguments: str) -> None:
        """`python -m deploy.local ARGUMENTS`; a Ctrl-C at the terminal does not reach it. Raises `FaultFailed`."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "deploy.local",
            *arguments,
            cwd=self._root,
            env=environment | {"CHAT_PORT": str(self.layout.base_port), "CHAT_WORKERS": str(self.layout.workers)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = await process.communicate()
        except BaseException:
            process.terminate()
            await process.wait()
            raise
        if process.returncode:
            said = output.decode(errors="replace").strip()
            raise FaultFailed(f"`python -m deploy.local {' '.join(arguments)}` ended with {process.returncode}: {said}")

    # The workers' way to Redis

    def redirect(self, worker: str, redis_port: int) -> None:
        """From its next start on, a worker looks for Redis at this port."""
        path = self.layout.run_dir / f"{worker}.json"
        launch = read_json(path)
        parts = urlsplit(launch["environment"]["CHAT_BROKER_URL"])
        login = parts.netloc.rpartition("@")[0]
        launch["environment"]["CHAT_BROKER_URL"] = urlunsplit(parts._replace(netloc=f"{login}@{HOST}:{redis_port}"))
        write_json(path, launch)

    def redis_connections(self, name: str) -> set[tuple[str, int]]:
        """The addresses from which a process of the stack is connected to Redis."""
        return {
            (connection.laddr.ip, connection.laddr.port)
            for connection in self.process(name).net_connections("tcp")
            if connection.raddr and connection.raddr.port == self.layout.redis_port
        }

    async def kill_redis_connections(self, addresses: Iterable[tuple[str, int]]) -> int:
        """`CLIENT KILL` for each. Returns how many there were."""
        redis = Redis(host=HOST, port=self.layout.redis_port, password=self.layout.redis_password)
        try:
            return sum([int(await redis.client_kill_filter(addr=f"{host}:{port}")) for host, port in addresses])
        finally:
            await redis.aclose()
