"""`RedisBroker`: the log in Redis Streams, one stream per shard, all keys of a shard in one hash slot.

Needs Redis 7.0 or newer (or Valkey); 7.2 for `durability="disk"`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, get_args

import orjson
from redis.exceptions import RedisError

from ..exceptions import BrokerError
from ..positions import parse_position
from .clients import open_client
from .interface import PROBE_TOPIC, START, Entry, Extent, LogBroker, Member, Place, Record
from .redis_client import Command, Script
from .redis_log import APPEND, EXTENT
from .redis_presence import BEAT, CHANGE

FOREIGN: Final = "$foreign"
"""Topic given to entries that `append` did not write: nobody's pattern matches it, but its position is passed."""

Durability = Literal["memory", "disk", "replica"]
"""Where a record must be before it counts as stored."""

SPARE_CONNECTIONS: Final = 100
"""Beyond the two that a shard uses: for those who resume, and ask for history or presence."""

_APPEND: Final = Script(APPEND)
_EXTENT: Final = Script(EXTENT)
_CHANGE: Final = Script(CHANGE)
_BEAT: Final = Script(BEAT)


class RedisBroker(LogBroker):
    """The log in Redis, for the URLs `redis`, `rediss`, `redis+sentinel`, `redis+cluster` (see `clients.py`).

    `retention_messages` and `retention_seconds` bound what each shard keeps (both approximate upwards: Redis trims
    whole nodes of about 100 entries). `idempotency_seconds` is for how long a record's key is remembered, at least.
    `command_timeout_seconds` bounds connecting and every command that does not wait for messages.

    `durability` is where a record must be before `append` returns: in Redis's memory, on its disk (`WAITAOF`, needs
    `appendonly yes`), or on a replica too (`WAIT`). Where that takes longer than `command_timeout_seconds`, `append`
    raises, although the record may be read already: only one with a key can be repeated safely.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        shards: int = 4,
        shard_levels: int = 1,
        retention_messages: int = 10_000,
        retention_seconds: int = 86_400,
        idempotency_seconds: int = 120,
        durability: Durability = "memory",
        command_timeout_seconds: float = 5.0,
    ) -> None:
        super().__init__(shards=shards, shard_levels=shard_levels)
        if durability not in get_args(Durability):
            raise ValueError(f"durability must be one of {get_args(Durability)}, not {durability!r}")
        self._bounds = (retention_messages, retention_seconds, idempotency_seconds)
        self._durability = durability
        self._timeout_seconds = command_timeout_seconds
        self._probed: dict[tuple[str, int], str] = {}
        self._newest: dict[tuple[str, int], tuple[str, str]] = {}
        """The newest position that `append` gave, and its epoch: the log must not lack it at the next one."""
        self._client = open_client(
            redis_url, answer_seconds=command_timeout_seconds, max_connections=2 * shards + SPARE_CONNECTIONS
        )

    async def connect(self) -> None:
        """Make sure that Redis answers. Raises `BrokerError` when it does not."""
        async with _broker_errors("connect to"):
            await self._client.run("", [("PING",)])

    async def disconnect(self) -> None:
        await self._client.close()

    async def reconnect(self) -> None:
        async with _broker_errors("let go of"):
            await self._client.reconnect()

    def _key(self, channel: str, shard: int) -> str:
        # What decides the shards is part of the name: with other numbers topics lie elsewhere, so it is another log.
        return f"{{{channel}:{shard}/{self.shards}/{self.shard_levels}}}"

    async def append(self, channel: str, shard: int, records: Sequence[Record]) -> list[str]:
        key = self._key(channel, shard)
        known = self._newest.get((channel, shard), ("", ""))
        args: list[str | bytes | int] = [secrets.token_hex(8), *known, *self._bounds]
        for record in records:
            conn_ids = orjson.dumps(record.conn_ids) if record.conn_ids else b""
            args += (record.topic, record.body, b"ephemeral" if record.ephemeral else conn_ids, record.key)
        kept = [n for n, record in enumerate(records) if record.topic != PROBE_TOPIC and not record.ephemeral]
        wait = self._until_durable() if kept else []
        async with _broker_errors("append to"):
            (epoch, *stored), *waited = await self._client.call_script(
                _APPEND,
                (f"{key}:log", f"{key}:epoch", f"{key}:keys:", f"{key}:probe"),
                args,
                wait,
                waits_seconds=self._timeout_seconds if wait else 0.0,
            )
        positions = [position.decode() for position in stored]
        if kept:
            newest = max((positions[number] for number in kept), key=parse_position)
            self._newest[channel, shard] = (newest, epoch.decode())
        if wait:
            self._check_durable(waited[0])
        return positions

    def _until_durable(self) -> list[Command]:
        milliseconds = max(1, round(self._timeout_seconds * 1000))  # 0 would wait for ever
        if self._durability == "disk":
            return [("WAITAOF", 1, 0, milliseconds)]
        if self._durability == "replica":
            return [("WAIT", 1, milliseconds)]
        return []

    def _check_durable(self, answer: Any) -> None:
        reached = answer[0] if self._durability == "disk" else answer
        if reached < 1:
            where = "on disk" if self._durability == "disk" else "on a replica"
            raise BrokerError(f"stored, but not {where} within {self._timeout_seconds:g} s")

    async def read(self, channel: str, shard: int, after: str, *, limit: int, wait_seconds: float) -> list[Entry]:
        log, probe = f"{self._key(channel, shard)}:log", f"{self._key(channel, shard)}:probe"
        wait = max(1, round(wait_seconds * 1000))  # BLOCK 0 would wait for ever
        probed = self._probed.get((channel, shard), START)
        command = ("XREAD", "COUNT", limit, "BLOCK", wait, "STREAMS", log, probe, after, probed)
        async with _broker_errors("read from"):
            (streams,) = await self._client.run(log, [command], waits_seconds=wait_seconds)
        entries: list[Entry] = []
        beside: list[Entry] = []
        for name, items in streams or ():
            if name.endswith(b":log"):
                entries = [_entry(*item) for item in items]
            else:
                self._probed[channel, shard] = items[-1][0].decode()
                beside = [_entry(b"", fields) for _, fields in items if fields[1] != PROBE_TOPIC.encode()]
        entries += beside
        if streams and not entries:
            entries.append(Entry("", PROBE_TOPIC, b"{}"))
        return entries

    async def extent(self, channel: str, shard: int, *, known: tuple[str, str] = ("", "")) -> Extent:
        key = self._key(channel, shard)
        async with _broker_errors("look at the log in"):
            ((epoch, last, first, added, given_up),) = await self._client.call_script(
                _EXTENT, (f"{key}:log", f"{key}:epoch"), (secrets.token_hex(8), *known)
            )
        return Extent(epoch.decode(), last.decode(), first.decode(), added, given_up)

    async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
        return await self._range("XRANGE", channel, shard, f"({after}", until, limit)

    async def range_back(self, channel: str, shard: int, before: str, *, limit: int) -> list[Entry]:
        return await self._range("XREVRANGE", channel, shard, f"({before}" if before else "+", "-", limit)

    async def _range(self, command: str, channel: str, shard: int, start: str, end: str, limit: int) -> list[Entry]:
        log = f"{self._key(channel, shard)}:log"
        async with _broker_errors("read from"):
            items = await self._client.call(command, log, start, end, "COUNT", limit)
        return [_entry(*item) for item in items]

    async def presence_change(
        self,
        channel: str,
        shard: int,
        worker: str,
        entered: Sequence[Place],
        left: Sequence[Place],
        *,
        lives_seconds: float,
    ) -> None:
        key = self._key(channel, shard)
        args: list[str | bytes | int] = [f"{key}:presence:", worker, round(lives_seconds * 1000), len(entered)]
        for place in (*entered, *left):
            args += place
        async with _broker_errors("change presence in"):
            await self._client.call_script(_CHANGE, (f"{key}:log",), args)

    async def presence_beat(self, channel: str, shard: int, worker: str, *, lives_seconds: float) -> None:
        key = self._key(channel, shard)
        async with _broker_errors("beat in"):
            await self._client.call_script(
                _BEAT, (f"{key}:log",), (f"{key}:presence:", worker, round(lives_seconds * 1000))
            )

    async def presence_members(self, channel: str, shard: int, topic: str, *, limit: int) -> tuple[list[Member], int]:
        prefix = f"{self._key(channel, shard)}:presence:"
        members: dict[str, Member] = {}
        cursor = b"0"
        async with _broker_errors("read presence from"):
            total = await self._client.call("HLEN", f"{prefix}users:{topic}")
            while True:
                cursor, found = await self._client.call("HSCAN", f"{prefix}topic:{topic}", cursor, "COUNT", limit)
                for name, since in zip(found[::2], found[1::2], strict=True):
                    user, _, worker = name.decode().rpartition("\n")
                    if user not in members or int(since) < members[user]["since"]:
                        members[user] = {"user": user, "worker": worker.partition("#")[0], "since": int(since)}
                if cursor == b"0" or len(members) >= limit:
                    return list(members.values())[:limit], total


def _entry(position: bytes, fields: list[bytes]) -> Entry:
    """An entry of the stream. What other programs wrote into it must not harm: it keeps its position only."""
    try:
        if fields[0] != b"t" or fields[2] != b"b" or not fields[3].startswith(b'{"'):
            return Entry(position.decode(), FOREIGN, b"{}")
        conn_ids: tuple[str, ...] = ()
        if len(fields) > 5:
            conn_ids = tuple(orjson.loads(fields[5]))
            "".join(conn_ids)  # TypeError unless they are texts
        return Entry(position.decode(), fields[1].decode(), fields[3], conn_ids)
    except (IndexError, TypeError, ValueError):
        return Entry(position.decode(), FOREIGN, b"{}")


@asynccontextmanager
async def _broker_errors(doing: str) -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as exc:
        raise BrokerError(f"could not {doing} Redis: {str(exc) or type(exc).__name__}") from exc
