"""A TCP proxy on loopback that can swallow what its open connections carry, while they look healthy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class TcpProxy:
    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._swallowing: set[object] = set()
        self._open: set[object] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False
        """New connections are closed at once."""

    def swallow(self) -> None:
        """From now on the connections that are open carry nothing more; new ones do."""
        self._swallowing |= self._open

    def cut(self) -> None:
        """End every connection and let no new one through."""
        self.refusing = True
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = object()
        upstream: asyncio.StreamWriter | None = None
        try:
            if not self.refusing:
                from_target, upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
                self._open.add(connection)
                there = asyncio.create_task(self._pass_on(connection, reader, upstream))
                back = asyncio.create_task(self._pass_on(connection, from_target, writer))
                try:
                    await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    there.cancel()
                    back.cancel()
                    await asyncio.gather(there, back, return_exceptions=True)
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            self._open.discard(connection)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    async def _pass_on(self, connection: object, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if connection not in self._swallowing:
                    sink.write(data)
                    await sink.drain()


@contextlib.asynccontextmanager
async def tcp_proxy(target_port: int) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(target_port)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        tasks = list(proxy._tasks)
        proxy.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
