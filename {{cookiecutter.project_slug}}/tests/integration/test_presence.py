"""Presence of several workers on a real Redis that hangs, or that one of them does not reach."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import orjson
import pytest

from distributed_websocket import Policy, RedisBroker, presence
from distributed_websocket.presence import Presence
from tests.deadline import DEADLINE_SECONDS
from tests.redis_server import RedisServer
from tests.tcp_proxy import tcp_proxy
from tests.wire import RawWire, raw_connection

LIVES_SECONDS = 1.0


class Showing(Policy):
    def shows_presence(self, topic: str) -> bool:
        return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "BEAT_SECONDS", LIVES_SECONDS / 10)
    monkeypatch.setattr(presence, "LIVES_SECONDS", LIVES_SECONDS)


@asynccontextmanager
async def worker(url: str, channel: str, number: int) -> AsyncIterator[None]:
    """It has one user in the room."""
    broker = RedisBroker(url, shards=1, command_timeout_seconds=LIVES_SECONDS / 2)
    here = Presence(broker, channel, f"chat-{number}#a", Showing())
    connection = raw_connection(RawWire())
    connection.user = f"user{number}"
    here.enter(connection, "room/1")
    here.start()
    try:
        yield
    finally:
        await here.stop()
        await broker.disconnect()


class Room:
    """The room and the workers 1 to 3, as Redis has them."""

    def __init__(self, broker: RedisBroker, channel: str) -> None:
        self._broker = broker
        self._channel = channel

    async def events(self) -> list[tuple[str, str]]:
        last = (await self._broker.extent(self._channel, 0)).last
        told = [orjson.loads(e.body) for e in await self._broker.range(self._channel, 0, "0-0", last, limit=100)]
        return [(fields["type"], fields["user"]) for fields in told]

    async def events_when(self, count: int) -> list[tuple[str, str]]:
        """The events, when there are so many."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(events := await self.events()) < count:  # noqa: ASYNC110 - Redis does not tell of it
                await asyncio.sleep(0.02)
        return events

    async def lives(self) -> list[int]:
        """Since when each worker lives, in ms; 0 for one that does not."""
        key = self._broker._key(self._channel, 0)
        asked = [("GET", f"{key}:presence:alive:chat-{number}#a") for number in (1, 2, 3)]
        return [int(since or 0) for since in await self._broker._client.run(key, asked)]

    async def until_all_live(self, since: int) -> None:
        """All three have lived for as long as it takes to make others leave, in lives that began behind a moment."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                long_ago = await self.now() - 1_500 * LIVES_SECONDS
                if all(since < begun < long_ago for begun in await self.lives()):
                    return
                await asyncio.sleep(0.02)

    async def now(self) -> int:
        ((seconds, microseconds),) = await self._broker._client.run("", [("TIME",)])
        return int(seconds) * 1_000 + int(microseconds) // 1_000


@pytest.fixture
async def room(own_redis: RedisServer, channel: str) -> AsyncIterator[Room]:
    broker = RedisBroker(own_redis.url, shards=1)
    yield Room(broker, channel)
    await broker.disconnect()


JOINED = [("joined", "user1"), ("joined", "user2"), ("joined", "user3")]


async def test_nobody_left_while_redis_hung_for_all(own_redis: RedisServer, channel: str, room: Room) -> None:
    """What the workers had asked meanwhile is done all at once, one worker before the other."""
    async with AsyncExitStack() as workers:
        for number in (1, 2, 3):
            await workers.enter_async_context(worker(own_redis.url, channel, number))
        await room.until_all_live(since=0)
        before = await room.now()
        own_redis.freeze()
        await asyncio.sleep(2 * LIVES_SECONDS)  # longer than any of them lives
        own_redis.thaw()
        await room.until_all_live(since=before)
        assert sorted(await room.events()) == JOINED


async def test_users_of_a_worker_that_did_not_reach_redis_are_there_again(
    own_redis: RedisServer, channel: str, room: Room
) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(tcp_proxy(own_redis.port))
        ways = (f"redis://127.0.0.1:{proxy.port}/0", own_redis.url, own_redis.url)
        for number, url in enumerate(ways, start=1):
            await stack.enter_async_context(worker(url, channel, number))
        await room.until_all_live(since=0)
        proxy.cut()
        gone = await room.events_when(4)
        proxy.refusing = False
        back = await room.events_when(5)
    assert sorted(back[:3]) == JOINED
    assert back[3:] == [*gone[3:], ("joined", "user1")] == [("left", "user1"), ("joined", "user1")]
