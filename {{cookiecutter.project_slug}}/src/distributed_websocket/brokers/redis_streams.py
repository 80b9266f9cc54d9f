"""`RedisBroker`: the log in Redis Streams, one stream per shard, all keys of a shard in one hash slot.

Needs Redis 7.0 or newer (or Valkey); 7.2 for `durability="disk"`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
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

OWN_CONNECTIONS: Final = 5
"""Of each shard, for what keeps the log going: one each to append, to read and for presence, and two for its extent: a
look over an old connection may last beyond `reconnect`."""

SPARE_CONNECTIONS: Final = 100
"""Beyond those of the shards: for the pages, history and presence that clients ask for. Who finds none free waits."""

_APPEND: Final = Script(APPEND)
_EXTENT: Final = Script(EXTENT)
_CHANGE: Final = Script(CHANGE)
_BEAT: Final = Script(BEAT)


class RedisBroker(LogBroker):
    """The log in Redis, for the URLs `redis`, `rediss`, `redis+sentinel`, `redis+cluster` (see `clients.py`).

    `retention_messages` and `retention_seconds` bound what each shard keeps (both approximate upwards: Redis trims
    whole nodes of about 100 entries). `idempotency_seconds` is for how long a record's key is remembered, at least.
    `command_timeout_seconds` bounds connecting, every command that does not wait for messages, and the wait for a turn
    where clients ask for more at once than there are connections for.

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
        self._looks: defaultdict[tuple[str, int], _Looks] = defaultdict(_Looks)
        self._spare = asyncio.Semaphore(SPARE_CONNECTIONS)
        self._client = open_client(
            redis_url,
            answer_seconds=command_timeout_seconds,
            max_connections=OWN_CONNECTIONS * shards + SPARE_CONNECTIONS,
        )

    async def connect(self) -> None:
        """Make sure that Redis answers. Raises `BrokerError` when it does not."""
        async with _broker_errors("connect to"):
            await self._client.run("", [("PING",)])

    async def disconnect(self) -> None:
        await self._client.close()

    async def reconnect(self) -> None:
        self._looks.clear()  # nobody waits for a look over an old connection
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
        # A shard's reader asks, and each client that resumes. One look at a time needs one connection; and as all who
        # ask meanwhile share the next, the reader waits for one look at most, however many clients there are.
        looks = self._looks[channel, shard]
        looks.known = known
        if looks.next is None:
            looks.next = asyncio.create_task(self._look(channel, shard, looks))
            looks.next.add_done_callback(lambda done: done.cancelled() or done.exception())  # who asked may be gone
        async with _broker_errors("look at the log in"):
            return await asyncio.shield(looks.next)

    async def _look(self, channel: str, shard: int, looks: _Looks) -> Extent:
        if looks.under_way is not None:
            await asyncio.wait([looks.under_way])
        looks.under_way, looks.next = looks.next, None
        key = self._key(channel, shard)
        ((epoch, last, first, added, given_up),) = await self._client.call_script(
            _EXTENT, (f"{key}:log", f"{key}:epoch"), (secrets.token_hex(8), *looks.known)
        )
        return Extent(epoch.decode(), last.decode(), first.decode(), added, given_up)

    async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
        return await self._range("XRANGE", channel, shard, f"({after}", until, limit)

    async def range_back(self, channel: str, shard: int, before: str, *, limit: int) -> list[Entry]:
        return await self._range("XREVRANGE", channel, shard, f"({before}" if before else "+", "-", limit)

    async def _range(self, command: str, channel: str, shard: int, start: str, end: str, limit: int) -> list[Entry]:
        log = f"{self._key(channel, shard)}:log"
        async with _broker_errors("read from"), self._turn():
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
    ) -> int:
        args: list[str | int] = [len(entered)]
        for place in (*entered, *left):
            args += place
        async with _broker_errors("change presence in"):
            return await self._call_presence(_CHANGE, channel, shard, worker, lives_seconds, args)

    async def presence_beat(self, channel: str, shard: int, worker: str, *, lives_seconds: float) -> int:
        async with _broker_errors("beat in"):
            return await self._call_presence(_BEAT, channel, shard, worker, lives_seconds, ())

    async def _call_presence(
        self, script: Script, channel: str, shard: int, worker: str, lives_seconds: float, args: Sequence[str | int]
    ) -> int:
        key = self._key(channel, shard)
        kept = self._bounds[0]
        since: int
        (since,) = await self._client.call_script(
            script, (f"{key}:log",), (f"{key}:presence:", worker, round(lives_seconds * 1000), kept, *args)
        )
        return since

    async def presence_members(self, channel: str, shard: int, topic: str, *, limit: int) -> tuple[list[Member], int]:
        prefix = f"{self._key(channel, shard)}:presence:"
        members: dict[str, Member] = {}
        cursor = b"0"
        async with _broker_errors("read presence from"), self._turn():
            total = await self._client.call("HLEN", f"{prefix}users:{topic}")
            while True:
                cursor, found = await self._client.call("HSCAN", f"{prefix}topic:{topic}", cursor, "COUNT", limit)
                for name, since in zip(found[::2], found[1::2], strict=True):
                    user, _, worker = name.decode().rpartition("\n")
                    if user not in members or int(since) < members[user]["since"]:
                        members[user] = {"user": user, "worker": worker.partition("#")[0], "since": int(since)}
                if cursor == b"0" or len(members) >= limit:
                    return list(members.values())[:limit], total

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of the spare connections. An exchange that waited for it has all of its time: cut short it costs more."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._spare.acquire()
        except TimeoutError:
            why = f"no turn within {self._timeout_seconds:g} s behind {SPARE_CONNECTIONS} others"
            raise TimeoutError(why) from None
        try:
            yield
        finally:
            self._spare.release()


class _Looks:
    """The looks at the extent of one shard's log: `next` is for whoever asks now."""

    def __init__(self) -> None:
        self.under_way: asyncio.Task[Extent] | None = None
        self.next: asyncio.Task[Extent] | None = None
        self.known = ("", "")
        """What the newest who asked had read: a reader only moves on, so this holds for those before as well."""


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
