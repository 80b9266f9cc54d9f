"""A log in memory whose faults the test decides: it fails, hangs, goes deaf, or loses what it held."""

import asyncio
from collections.abc import Sequence

from distributed_websocket.brokers.interface import Entry, Extent, Record
from distributed_websocket.brokers.memory import InMemoryBroker


class FaultyBroker(InMemoryBroker):
    def __init__(self, *, shards: int = 1, retention_messages: int = 10_000) -> None:
        super().__init__(shards=shards, retention_messages=retention_messages)
        self.failing: set[str] = set()
        """Names of the methods that raise `failure`."""
        self.failure: Exception = RuntimeError("not set")
        self.hanging: set[str] = set()
        """Names of the methods that do not answer before `heal`."""
        self._healed = asyncio.Event()
        self.appends: list[list[Record]] = []
        self.reads = 0
        self.extents = 0
        self.deaf = False
        """`read` waits for as long as it may and returns nothing, as a connection does that only looks healthy."""
        self.fails_after_storing = False

    def fail(self, method: str, failure: Exception) -> None:
        self.failing.add(method)
        self.failure = failure

    def heal(self) -> None:
        self.failing.clear()
        self.hanging.clear()
        self.deaf = False
        self.fails_after_storing = False
        self._healed.set()
        self._healed = asyncio.Event()

    async def _fault(self, method: str) -> None:
        if method in self.hanging:
            await self._healed.wait()
        if method in self.failing:
            raise self.failure

    async def append(self, channel: str, shard: int, records: Sequence[Record]) -> list[str]:
        self.appends.append(list(records))
        if not self.fails_after_storing:
            await self._fault("append")
        positions = await super().append(channel, shard, records)
        if self.fails_after_storing:
            await self._fault("append")
        return positions

    async def read(self, channel: str, shard: int, after: str, *, limit: int, wait_seconds: float) -> list[Entry]:
        self.reads += 1
        await self._fault("read")
        entries = await super().read(channel, shard, after, limit=limit, wait_seconds=wait_seconds)
        if self.deaf:
            if entries:
                await asyncio.sleep(wait_seconds)
            return []
        return entries

    async def extent(self, channel: str, shard: int, *, known: tuple[str, str] = ("", "")) -> Extent:
        self.extents += 1
        await self._fault("extent")
        return await super().extent(channel, shard, known=known)

    async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
        await self._fault("range")
        return await super().range(channel, shard, after, until, limit=limit)

    def flush(self) -> None:
        """Lose every log; readers that wait go on waiting, as they do in Redis."""
        for key, log in list(self._logs.items()):
            grown = log.grown
            del self._logs[key]
            self._log(*key).grown = grown

    def texts(self) -> list[bytes]:
        """The bodies appended, in order, without probes."""
        return [record.body for batch in self.appends for record in batch if record.topic != "$probe"]
