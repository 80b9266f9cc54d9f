"""`Detour`: a worker's way to Redis that can be blocked, without root.

A network that is parted loses packets, and TCP sends them again: once it is whole, everything arrives after all, unless
somebody gave the connection up meanwhile. So while it is blocked, bytes are held back, not thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from deploy.probe import HOST

READ_BYTES = 65_536


class Detour:
    """TCP connections from `port` to another port of this machine. Made by `open_detour`."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._passable = asyncio.Event()
        self._passable.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.exits: set[tuple[str, int]] = set()
        """Addresses from which its open connections reach the target."""

    def block(self) -> None:
        """New connections are accepted, as by the kernel of a host that is there, and then nothing passes."""
        self._passable.clear()

    def unblock(self) -> None:
        self._passable.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        exit_address: tuple[str, int] | None = None
        ends = [writer]
        try:
            await self._passable.wait()
            from_target, to_target = await asyncio.open_connection(HOST, self._target_port)
            ends.append(to_target)
            host, port = to_target.get_extra_info("sockname")
            exit_address = (str(host), int(port))
            self.exits.add(exit_address)
            ways = [
                asyncio.create_task(self._carry(reader, to_target)),
                asyncio.create_task(self._carry(from_target, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the target is not there: neither is this
        finally:
            self._tasks.discard(task)
            if exit_address is not None:
                self.exits.discard(exit_address)
            for end in ends:
                end.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(READ_BYTES):
                await self._passable.wait()
                sink.write(data)
                await sink.drain()
            await self._passable.wait()  # the end of a connection is not heard of either

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def open_detour(target_port: int) -> AsyncIterator[Detour]:
    detour = Detour(target_port)
    server = await asyncio.start_server(detour.accept, HOST, 0)
    detour.port = server.sockets[0].getsockname()[1]
    try:
        yield detour
    finally:
        server.close()
        await detour.close()
        await server.wait_closed()
