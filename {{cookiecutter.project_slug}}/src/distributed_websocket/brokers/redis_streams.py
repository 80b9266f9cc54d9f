"""`RedisBroker`: the log in Redis Streams, one stream per shard, all keys of a shard in one hash slot.

Needs Redis 7.0 or newer (or Valkey). Redis scripts are used where one round trip must do more than one thing.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..exceptions import BrokerError
from .interface import PROBE_TOPIC, START, Entry, Extent, LogBroker, Member, Place, Record
from .redis_presence import BEAT, CHANGE

FOREIGN: Final = "$foreign"
"""Topic given to entries that `append` did not write: nobody's pattern matches it, but its position is passed."""

# One round trip stores a batch: the epoch is made sure of, a key seen within the window gives the position it got the
# first time, and the log is trimmed by count and by age. The keys of the window live in two hashes by time, the
# current and the one before, so forgetting them costs nothing. The time is Redis's: workers' clocks do not matter.
# What is not kept, probes and ephemeral records, goes into a short stream of its own, beside the log, which every
# reader waits for in the same command.
APPEND: Final = """
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[2], epoch)
end
local time = redis.call('TIME')
local window = tonumber(ARGV[4])
local slot = math.floor(tonumber(time[1]) / window)
local current, previous = KEYS[3] .. slot, KEYS[3] .. (slot - 1)
local remembered = false
local positions = {}
for i = 5, #ARGV, 4 do
  local key, position = ARGV[i + 3], false
  if key ~= '' then
    position = redis.call('HGET', current, key) or redis.call('HGET', previous, key)
  end
  if not position then
    if ARGV[i] == '$probe' or ARGV[i + 2] == 'ephemeral' then
      position = redis.call('XADD', KEYS[4], 'MAXLEN', '~', 500, '*', 't', ARGV[i], 'b', ARGV[i + 1])
    elseif ARGV[i + 2] == '' then
      position = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 't', ARGV[i], 'b', ARGV[i + 1])
    else
      position = redis.call(
        'XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 't', ARGV[i], 'b', ARGV[i + 1], 'c', ARGV[i + 2]
      )
    end
    if key ~= '' then
      redis.call('HSET', current, key, position)
      remembered = true
    end
  end
  positions[#positions + 1] = position
end
if remembered then
  redis.call('EXPIRE', current, 2 * window)
end
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', (tonumber(time[1]) - tonumber(ARGV[3])) * 1000))
return positions
"""

EXTENT: Final = """
local epoch = redis.call('GET', KEYS[2])
if not epoch then
  epoch = ARGV[1]
  redis.call('SET', KEYS[2], epoch)
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {epoch, '0-0', '', 0, 0}
end
local info, at = redis.call('XINFO', 'STREAM', KEYS[1]), {}
for i = 1, #info, 2 do
  at[info[i]] = info[i + 1]
end
local first = ''
if at['length'] > 0 then
  first = at['first-entry'][1]
end
return {epoch, at['last-generated-id'], first, at['entries-added'], at['entries-added'] - at['length']}
"""


class RedisBroker(LogBroker):
    """The log in Redis.

    `retention_messages` and `retention_seconds` bound what each shard keeps (both approximate upwards: Redis trims
    whole nodes of about 100 entries). `idempotency_seconds` is for how long a record's key is remembered, at least.
    `command_timeout_seconds` bounds connecting and every command that does not wait for messages.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        shards: int = 4,
        retention_messages: int = 10_000,
        retention_seconds: int = 86_400,
        idempotency_seconds: int = 120,
        command_timeout_seconds: float = 5.0,
    ) -> None:
        super().__init__(shards=shards)
        self._retention_messages = retention_messages
        self._retention_seconds = retention_seconds
        self._idempotency_seconds = idempotency_seconds
        self._probed: dict[tuple[str, int], str] = {}
        options: dict[str, Any] = {
            # redis-py repeats a failed command by itself: an append that did arrive would be stored twice.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "socket_connect_timeout": command_timeout_seconds,
            "socket_keepalive": True,
        }
        self._commands = redis.asyncio.Redis.from_url(redis_url, socket_timeout=command_timeout_seconds, **options)
        # redis-py 8 gives up a silent socket after 5 s unless told not to: a reader waits for as long as it asked.
        self._reads = redis.asyncio.Redis.from_url(redis_url, socket_timeout=None, **options)
        # Entries as they came, without a dict for each: `_entry` knows the order of the fields that `append` wrote.
        self._reads.set_response_callback("XREAD", _raw)
        self._commands.set_response_callback("XRANGE", _raw)
        self._commands.set_response_callback("XREVRANGE", _raw)
        self._append = self._commands.register_script(APPEND)
        self._extent = self._commands.register_script(EXTENT)
        self._presence_change = self._commands.register_script(CHANGE)
        self._presence_beat = self._commands.register_script(BEAT)

    async def connect(self) -> None:
        """Make sure that Redis answers. Raises `BrokerError` when it does not."""
        async with _broker_errors("connect to"):
            await self._commands.ping()

    async def disconnect(self) -> None:
        await self._reads.aclose()
        await self._commands.aclose()

    def _key(self, channel: str, shard: int) -> str:
        # The number of shards is part of the name: with another number topics lie elsewhere, so it is another log.
        return f"{{{channel}:{shard}/{self.shards}}}"

    async def append(self, channel: str, shard: int, records: Sequence[Record]) -> list[str]:
        key = self._key(channel, shard)
        args: list[str | bytes | int] = [
            secrets.token_hex(8),
            self._retention_messages,
            self._retention_seconds,
            self._idempotency_seconds,
        ]
        for record in records:
            conn_ids = orjson.dumps(record.conn_ids) if record.conn_ids else b""
            args += (record.topic, record.body, b"ephemeral" if record.ephemeral else conn_ids, record.key)
        async with _broker_errors("append to"):
            positions: list[bytes] = await self._append(
                keys=[f"{key}:log", f"{key}:epoch", f"{key}:keys:", f"{key}:probe"], args=args
            )
        return [position.decode() for position in positions]

    async def read(self, channel: str, shard: int, after: str, *, limit: int, wait_seconds: float) -> list[Entry]:
        key = self._key(channel, shard)
        wait = max(1, round(wait_seconds * 1000))  # BLOCK 0 would wait for ever
        probed = self._probed.get((channel, shard), START)
        async with _broker_errors("read from"):
            streams: Any = await self._reads.xread({f"{key}:log": after, f"{key}:probe": probed}, limit, wait)
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

    async def extent(self, channel: str, shard: int) -> Extent:
        key = self._key(channel, shard)
        async with _broker_errors("look at the log in"):
            epoch, last, first, added, given_up = await self._extent(
                keys=[f"{key}:log", f"{key}:epoch"], args=[secrets.token_hex(8)]
            )
        return Extent(epoch.decode(), last.decode(), first.decode(), added, given_up)

    async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
        async with _broker_errors("read from"):
            items: Any = await self._commands.xrange(f"{self._key(channel, shard)}:log", f"({after}", until, limit)
        return [_entry(*item) for item in items]

    async def range_back(self, channel: str, shard: int, before: str, *, limit: int) -> list[Entry]:
        newest = f"({before}" if before else "+"
        async with _broker_errors("read from"):
            items: Any = await self._commands.xrevrange(f"{self._key(channel, shard)}:log", newest, "-", limit)
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
        args: list[str | int] = [f"{key}:presence:", worker, round(lives_seconds * 1000), len(entered)]
        for place in (*entered, *left):
            args += place
        async with _broker_errors("change presence in"):
            await self._presence_change(keys=[f"{key}:log"], args=args)

    async def presence_beat(self, channel: str, shard: int, worker: str, *, lives_seconds: float) -> None:
        key = self._key(channel, shard)
        async with _broker_errors("beat in"):
            await self._presence_beat(
                keys=[f"{key}:log"], args=[f"{key}:presence:", worker, round(lives_seconds * 1000)]
            )

    async def presence_members(self, channel: str, shard: int, topic: str, *, limit: int) -> tuple[list[Member], int]:
        prefix = f"{self._key(channel, shard)}:presence:"
        async with _broker_errors("read presence from"):
            total = await self._commands.hlen(f"{prefix}users:{topic}")
            members: dict[str, Member] = {}
            async for name, since in self._commands.hscan_iter(f"{prefix}topic:{topic}", count=limit):
                user, _, worker = name.decode().rpartition("\n")
                if user not in members or int(since) < members[user]["since"]:
                    members[user] = {"user": user, "worker": worker.partition("#")[0], "since": int(since)}
                if len(members) >= limit:
                    break
        return list(members.values()), total


def _raw(response: Any, **_: Any) -> Any:
    return response


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
        raise BrokerError(f"could not {doing} Redis: {exc or type(exc).__name__}") from exc
