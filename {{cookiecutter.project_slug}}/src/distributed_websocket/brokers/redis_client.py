"""`RedisClient`: how commands reach Redis, whether it is one server, the primary that Sentinels name, or a Cluster.

Unlike redis-py's own clients, these send nothing twice that may have been carried out, and several commands over one
connection where that matters (`WAIT` counts the writes of its own connection). Answers are as they came: bytes.

    RedisClient
     ├── OneServer          `redis://` `rediss://`, and behind Sentinels: `redis+sentinel://h1:p1,h2:p2/service/db`
     └── ClusterClient      `redis+cluster://h1:p1,h2:p2`, in `redis_cluster.py`
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from redis.asyncio.connection import ConnectionPool
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

Command = Sequence[str | bytes | int]


class Address(NamedTuple):
    host: str
    port: int


class Script:
    """A Lua script; the server keeps it after the first call."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisClient(ABC):
    """`answer_seconds` bounds every exchange, connecting included; what waits on purpose says for how long."""

    def __init__(self, answer_seconds: float) -> None:
        self.answer_seconds = answer_seconds

    @abstractmethod
    async def run(self, key: str, commands: Sequence[Command], *, waits_seconds: float = 0.0) -> list[Any]:
        """Send commands together over one connection to the server that holds `key`; their answers.

        Raises the first error of any of them, or `OSError` (`TimeoutError`, a lost connection): then each of them may
        or may not have been carried out.
        """

    @abstractmethod
    async def reconnect(self) -> None:
        """Let go of the connections that nobody uses now: they look healthy, and are not believed to be."""

    @abstractmethod
    async def close(self) -> None: ...

    async def call(self, *command: str | bytes | int, waits_seconds: float = 0.0) -> Any:
        """One command whose first argument is a key."""
        (answer,) = await self.run(str(command[1]), [command], waits_seconds=waits_seconds)
        return answer

    async def call_script(
        self,
        script: Script,
        keys: Sequence[str],
        args: Command,
        then: Sequence[Command] = (),
        *,
        waits_seconds: float = 0.0,
    ) -> list[Any]:
        """Run a script, and then other commands on the same connection. The answer of the script comes first."""
        commands: list[Command] = [("EVALSHA", script.sha, len(keys), *keys, *args), *then]
        try:
            return await self.run(keys[0], commands, waits_seconds=waits_seconds)
        except NoScriptError:
            load: Command = ("SCRIPT LOAD", script.text)
            return (await self.run(keys[0], [load, *commands], waits_seconds=waits_seconds))[1:]

    @asynccontextmanager
    async def _within(self, waits_seconds: float) -> AsyncIterator[None]:
        seconds = self.answer_seconds + waits_seconds
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as exc:
            raise TimeoutError(str(exc) or f"no answer within {seconds:g} s") from exc


class OneServer(RedisClient):
    """All keys on one server; which one that is, the pool decides."""

    def __init__(self, pool: ConnectionPool, answer_seconds: float, sentinel: Sentinel | None = None) -> None:
        super().__init__(answer_seconds)
        self._pool = pool
        self._sentinel = sentinel

    async def run(self, key: str, commands: Sequence[Command], *, waits_seconds: float = 0.0) -> list[Any]:
        async with self._within(waits_seconds):
            return await exchange(self._pool, commands)

    async def reconnect(self) -> None:
        await self._pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        await self._pool.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()


async def exchange(pool: ConnectionPool, commands: Sequence[Command]) -> list[Any]:
    """Send commands over one connection of the pool and read all their answers; raises the first error among them.

    redis-py closes a connection on which reading was cancelled, so no answer is ever taken for another command's.
    """
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    answers: list[Any] = []
    failure: ResponseError | None = None
    try:
        await connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            try:
                answers.append(await connection.read_response(timeout=math.inf))
            except ResponseError as exc:
                failure = failure or exc
        if isinstance(failure, ReadOnlyError):
            await connection.disconnect()  # a primary no more: whoever connects again may reach the new one
    finally:
        await pool.release(connection)
    if failure is not None:
        raise failure
    return answers
