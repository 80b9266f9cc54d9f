"""`InMemoryBroker`: the log of one process, for development, tests and services that never leave one worker."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from ..message import encode
from ..positions import parse_position
from .interface import PROBE_TOPIC, START, Entry, Extent, LogBroker, Member, Place, Record


class _Log:
    """One shard's log. `grown` is set, and replaced, at each append."""

    __slots__ = ("added", "beside", "entries", "epoch", "grown", "last", "positions_by_key", "said")

    def __init__(self, retention: int) -> None:
        self.epoch = secrets.token_hex(8)
        self.entries: deque[Entry] = deque(maxlen=retention)
        self.positions_by_key: OrderedDict[str, str] = OrderedDict()
        self.last = START
        self.added = 0
        self.beside: deque[Entry] = deque(maxlen=500)
        self.said = 0
        """How many entries ever went into `beside`, which has what is not kept: probes and ephemeral records."""
        self.grown = asyncio.Event()

    def add(self, record: Record) -> str:
        if record.ephemeral or record.topic == PROBE_TOPIC:
            self.said += 1
            self.beside.append(Entry("", record.topic, record.body))
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


class _Life(NamedTuple):
    """Since when a worker lives without a gap, and until when without a further heartbeat (monotonic time in ns)."""

    since: int
    until: int


class _Places:
    """Presence in one shard: worker → place → since when, and how long each worker is believed to live."""

    __slots__ = ("by_worker", "lives")

    def __init__(self) -> None:
        self.by_worker: dict[str, dict[Place, int]] = {}
        self.lives: dict[str, _Life] = {}

    def beat(self, worker: str, lives_seconds: float) -> int:
        now = time.monotonic_ns()
        life = self.lives.get(worker)
        since = life.since if life is not None and now < life.until else now
        self.lives[worker] = _Life(since, now + round(lives_seconds * 1e9))
        return since

    def is_in(self, place: Place) -> bool:
        return any(place in places for places in self.by_worker.values())


class InMemoryBroker(LogBroker):
    """The log in this process's memory: all of `LogBroker`'s promises among the managers that share this object.

    `retention_messages` entries are kept per shard; positions and epochs end with the process.
    """

    def __init__(self, *, shards: int = 1, shard_levels: int = 1, retention_messages: int = 10_000) -> None:
        super().__init__(shards=shards, shard_levels=shard_levels)
        self._retention = retention_messages
        self._logs: dict[tuple[str, int], _Log] = {}
        self._places: dict[tuple[str, int], _Places] = {}

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
        said = log.said
        if log.last == after or not log.entries:
            try:
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
                async with asyncio.timeout(wait_seconds):
                    await log.grown.wait()
            except TimeoutError:
                return []
        beside = list(log.beside)[said - log.said :] if log.said > said else []
        entries = log.behind(after)[:limit] + [entry for entry in beside if entry.topic != PROBE_TOPIC]
        return entries or beside[:1]

    async def extent(self, channel: str, shard: int, *, known: tuple[str, str] = ("", "")) -> Extent:
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

    async def presence_change(
        self,
        channel: str,
        shard: int,
        worker: str,
        entered: Sequence[Place],
        left: Sequence[Place],
        *,
        lives_seconds: float,
    ) -> int:
        since = self._places.setdefault((channel, shard), _Places()).beat(worker, lives_seconds)
        await self._change(channel, shard, worker, entered, left)
        return since

    async def _change(
        self, channel: str, shard: int, worker: str, entered: Sequence[Place], left: Sequence[Place]
    ) -> None:
        shard_places = self._places[channel, shard]
        mine = shard_places.by_worker.setdefault(worker, {})
        now = time.time_ns() // 1_000_000
        events: list[Record] = []
        for place in entered:
            if not shard_places.is_in(place):
                events.append(_event("joined", place, now))
            mine.setdefault(place, now)
        for place in left:
            if mine.pop(place, None) is not None and not shard_places.is_in(place):
                events.append(_event("left", place, now))
        if events:
            await self.append(channel, shard, events)

    async def presence_beat(self, channel: str, shard: int, worker: str, *, lives_seconds: float) -> int:
        shard_places = self._places.setdefault((channel, shard), _Places())
        since = shard_places.beat(worker, lives_seconds)
        now = time.monotonic_ns()
        if now - since >= lives_seconds * 1e9:  # sooner, the others may be about to come back from an outage for all
            for other in [other for other, life in shard_places.lives.items() if life.until <= now]:
                await self._change(channel, shard, other, (), list(shard_places.by_worker.get(other, ())))
                del shard_places.by_worker[other], shard_places.lives[other]
        return since

    async def presence_members(self, channel: str, shard: int, topic: str, *, limit: int) -> tuple[list[Member], int]:
        members: dict[str, Member] = {}
        for worker, places in self._places.setdefault((channel, shard), _Places()).by_worker.items():
            for place, since in places.items():
                if place.topic == topic and since < members.get(place.user, {"since": since + 1})["since"]:
                    members[place.user] = {"user": place.user, "worker": worker.partition("#")[0], "since": since}
        return list(members.values())[:limit], len(members)


def _event(kind: str, place: Place, at: int) -> Record:
    return Record(place.topic, encode({"type": kind, "topic": place.topic, "user": place.user, "at": at}))
