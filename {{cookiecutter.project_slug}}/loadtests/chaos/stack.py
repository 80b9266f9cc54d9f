"""`Stack`: what runs, as the faults need it. `find_stack` takes the one that is there, processes or containers."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from deploy.containers.layout import read_record
from deploy.errors import WrongState
from deploy.settings import Settings

from .schedule import Planned

POLL_SECONDS = 0.25


class FaultFailed(Exception):
    """A fault could not be brought about: the run says nothing about it."""


class Stack(Protocol):
    """Calls raise `FaultFailed` where a process that shall be struck is not there."""

    workers: list[str]
    gateways: list[str]

    @property
    def url(self) -> str: ...

    @property
    def tls_context(self) -> ssl.SSLContext | None: ...

    async def kill(self, name: str) -> None:
        """SIGKILL. Whoever supervises it starts it again."""

    def frozen(self, name: str) -> AbstractAsyncContextManager[None]:
        """Its connections stay open, and nothing is answered meanwhile."""

    async def cut_from_redis(self, worker: str) -> None:
        """Its connections to Redis end; new ones work."""

    def parted_from_redis(self, worker: str) -> AbstractAsyncContextManager[None]:
        """Nothing passes between a worker and Redis meanwhile, not even the end of a connection."""

    def prepared(self, planned: Sequence[Planned]) -> AbstractAsyncContextManager[None]:
        """What must be arranged before some of the faults can strike, for as long as that lasts."""

    async def not_ready(self) -> list[str]:
        """The names of the processes that do not work, or not in Traefik's view."""

    async def command(self, *arguments: str) -> None:
        """What `make` calls for this way to run."""


def find_stack(root: Path) -> Stack:
    """Raises `StackError` where there is nothing to strike."""
    from .container_stack import ContainerStack
    from .local_stack import LocalStack

    return LocalStack(root) if read_record(root) is None else ContainerStack(root)


async def until_ready(stack: Stack, seconds: float) -> list[str]:
    """Wait until every process works. The names of those that do not even then."""
    deadline = time.monotonic() + seconds
    while names := await stack.not_ready():
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(POLL_SECONDS)
    return names


def raise_without_own_redis(layout: Settings) -> None:
    if layout.broker_url:
        raise WrongState("The workers do not use the stack's own Redis: there is nothing here to strike.")


def tolerant_context(layout: Settings) -> ssl.SSLContext | None:
    """Takes any certificate: it is for the public name of the service."""
    if not layout.tls:
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def run_to_end(root: Path, command: Sequence[str], settings: Mapping[str, str]) -> None:
    """`python -m COMMAND`; a Ctrl-C at the terminal does not reach it. Raises `FaultFailed`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *command),
        cwd=root,
        env={**environment, **settings},
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
        raise FaultFailed(f"`python -m {' '.join(command)}` ended with {process.returncode}: {said}")
