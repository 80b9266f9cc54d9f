"""`InMemoryBroker`: the log of one process, for development, tests and services that never leave one worker."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice

from ..positions import parse_position
from .interface import PROBE_TOPIC, START, Entry, Extent, LogBroker, Record


class _Log:
    """One shard's log. `grown` is set, and replaced, at each append."""

    __slots__ = ("added", "entries", "epoch", "grown", "last", "positions_by_key", "probes")

    def __init__(self, retention: int) -> None:
        self.epoch = secrets.token_hex(8)
        self.entries: deque[Entry] = deque(maxlen=retention)
        self.positions_by_key: OrderedDict[str, str] = OrderedDict()
        self.last = START
        self.added = 0
        self.probes = 0
        self.grown = asyncio.Event()

    def add(self, record: Record) -> str:
        if record.topic == PROBE_TOPIC:
            self.probes += 1
            return f"{time.time_ns() // 1_000_000}-0"
        if record.key and (stored := self.positions_by_key.get(record.key)):
            return stored
        ms, seq = parse_position(self.last)
        now = max(time.time_ns() // 1_000_000, ms)
        self.last = f"{now}-{seq + 1 if now == ms else 0}"
        self.added += 1
        self.entries.append(Entry(self.last, record.topic, record.body, record.conn_ids))
        if record.key:
            self.positions_by_key[record.key] = self.last
            if len(self.positions_by_key) > (self.entries.maxlen or 0):
                self.positions_by_key.popitem(last=False)
        return self.last

    def behind(self, after: str) -> list[Entry]:
        """The entries behind a position. Readers are near the end, so it is looked for from there."""
        floor = parse_position(after)
        count = 0
        for entry in reversed(self.entries):
            if parse_position(entry.position) <= floor:
                break
            count += 1
        return list(islice(self.entries, len(self.entries) - count, None))


class InMemoryBroker(LogBroker):
    """The log in this process's memory: all of `LogBroker`'s promises among the managers that share this object.

    `retention_messages` entries are kept per shard; positions and epochs end with the process.
    """

    def __init__(self, *, shards: int = 1, retention_messages: int = 10_000) -> None:
        super().__init__(shards=shards)
        self._retention = retention_messages
        self._logs: dict[tuple[str, int], _Log] = {}

    async def connect(self) -> None:
        """Nothing to connect to."""

    async def disconnect(self) -> None:
        """The log stays for those who share the broker."""

    def _log(self, channel: str, shard: int) -> _Log:
        log = self._logs.get((channel, shard))
        if log is None:
            log = self._logs[channel, shard] = _Log(self._retention)
        return log

    async def append(self, channel: str, shard: int, records: Sequence[Record]) -> list[str]:
        log = self._log(channel, shard)
        positions = [log.add(record) for record in records]
        log.grown.set()
        log.grown = asyncio.Event()
        return positions

    async def read(self, channel: str, shard: int, after: str, *, limit: int, wait_seconds: float) -> list[Entry]:
        log = self._log(channel, shard)
        probes = log.probes
        if log.last == after or not log.entries:
            try:
                await asyncio.wait_for(log.grown.wait(), wait_seconds)
            except TimeoutError:
                return []
        return log.behind(after)[:limit] or [Entry("", PROBE_TOPIC, b"{}")] * (log.probes - probes)

    async def extent(self, channel: str, shard: int) -> Extent:
        log = self._log(channel, shard)
        first = log.entries[0].position if log.entries else ""
        return Extent(log.epoch, log.last, first, added=log.added, given_up=log.added - len(log.entries))

    async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
        ceiling = parse_position(until)
        behind = self._log(channel, shard).behind(after)
        return [entry for entry in behind if parse_position(entry.position) <= ceiling][:limit]

    async def range_back(self, channel: str, shard: int, before: str, *, limit: int) -> list[Entry]:
        entries = reversed(self._log(channel, shard).entries)
        if before:
            ceiling = parse_position(before)
            return list(islice((entry for entry in entries if parse_position(entry.position) < ceiling), limit))
        return list(islice(entries, limit))
