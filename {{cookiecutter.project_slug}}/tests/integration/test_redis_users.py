"""`deploy/redis/users.conf`: the service may do all that it does in Redis, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError, NoPermissionError

from deploy.containers.files import NO_DEFAULT_USER
from deploy.local.binaries import find_redis
from deploy.redis_configuration import redis_configuration, redis_url
from distributed_websocket import BrokerError, RedisBroker, RedisPubSubBroker
from distributed_websocket.brokers.interface import Place, Record
from tests.deadline import eventually
from tests.redis_server import RedisServer
from tests.service import load

PASSWORD = "a password: with 'quotes', %25 and spaces"
ADMIN = "user admin reset on nopass ~* &* +@all"


class StackRedis(RedisServer):
    """A Redis with the configuration of the stack in containers, and a user who may ask what was refused."""

    def command(self) -> list[str]:
        path = self.directory / "redis.conf"
        own = ["bind 127.0.0.1", f"port {self.port}", f"dir {self.directory}", NO_DEFAULT_USER, ADMIN]
        path.write_text(redis_configuration(PASSWORD, own))
        return [str(find_redis()), str(path)]

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"AUTH probe none\r\nPING\r\n")
            return connection.makefile("rb").read(12) == b"+OK\r\n+PONG\r\n"
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackRedis]:
    server = StackRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def url(server: StackRedis) -> str:
    return redis_url(PASSWORD, "127.0.0.1", server.port)


@pytest.fixture
async def broker(url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(url, shards=1)
    await broker.connect()
    yield broker
    await broker.disconnect()


@pytest.fixture
def channel() -> str:
    """One that the service's user may use, and no other test."""
    return f"chat:{secrets.token_hex(4)}"


@pytest.fixture
async def admin(server: StackRedis) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=server.port, username="admin", password="none") as client:
        yield client


async def test_everything_that_the_service_does_is_allowed(
    url: str, broker: RedisBroker, admin: redis.asyncio.Redis, channel: str
) -> None:
    await admin.acl_log_reset()
    await broker.append(channel, 0, [Record("room/1", b'{"n":1}', (), "key"), Record("$probe", b"{}")])
    await broker.append(channel, 0, [Record("room/1", b'{"n":1}', (), "key"), Record("", b'{"n":2}', ("c1",))])
    assert len(await broker.read(channel, 0, "0-0", limit=10, wait_seconds=0.01)) == 2
    extent = await broker.extent(channel, 0)
    await broker.extent(channel, 0, known=(extent.last, extent.epoch))
    await broker.range(channel, 0, "0-0", extent.last, limit=10)
    await broker.range_back(channel, 0, "", limit=10)
    places = [Place("room/1", "alice"), Place("room/1", "bob")]
    await broker.presence_change(channel, 0, "chat-1#1", places, [], lives_seconds=60)
    await broker.presence_change(channel, 0, "chat-1#1", [], places[:1], lives_seconds=0.001)
    since = await broker.presence_beat(channel, 0, "chat-2#1", lives_seconds=60)
    await eventually(lambda: time.time() * 1000 > since + 10)  # chat-1 is dead then, and chat-2 has lived long enough
    # Clears up after the one that is gone.
    assert await broker.presence_beat(channel, 0, "chat-2#1", lives_seconds=0.005) == since
    assert await broker.presence_members(channel, 0, "room/1", limit=10) == ([], 0)

    on_disk = RedisBroker(url, shards=1, durability="disk")
    await on_disk.append(channel, 0, [Record("room/1", b"{}")])
    await on_disk.disconnect()
    replicated = RedisBroker(url, shards=1, durability="replica", command_timeout_seconds=2)
    with pytest.raises(BrokerError, match="not on a replica"):
        await replicated.append(channel, 0, [Record("room/1", b"{}")])
    await replicated.disconnect()
    pubsub = RedisPubSubBroker(url.replace("redis:", "redis+pubsub:"))
    await pubsub.connect()
    await pubsub.subscribe(channel)
    await pubsub.publish(channel, {"topic": "room/1"})
    async with asyncio.timeout(30):
        while await pubsub.get_message() is None:
            pass
    await pubsub.unsubscribe(channel)
    await pubsub.disconnect()

    users = load("gateway.users")
    store = users.UserStore(url)
    assert await store.reached()
    assert await store.create(users.User("Alice", "hash"))
    assert (await store.find("alice")).password_hash == "hash"
    await store.close()
    rooms = load("gateway.rooms").RoomStore(url)
    assert await rooms.add("lobby", "alice")
    assert await rooms.find("lo", 10) == ["lobby"]
    assert (await rooms.count(), await rooms.count_of("alice")) == (1, 1)
    await rooms.close()

    assert await admin.acl_log() == [], "what was refused"


@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "KEYS *", "CONFIG GET *", "CLIENT LIST", "ACL LIST", "EVAL return(1) 0", "GET other"],
)
async def test_it_may_do_nothing_else(url: str, command: str) -> None:
    async with redis.asyncio.Redis.from_url(url) as client:
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command.split(" "))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("user", "password"), [(None, PASSWORD), ("default", ""), ("chat", "wrong"), (None, None)])
async def test_nobody_else_gets_in(server: StackRedis, user: str | None, password: str | None) -> None:
    async with redis.asyncio.Redis(port=server.port, username=user, password=password) as client:
        with pytest.raises(AuthenticationError):
            await client.get("chat:user:alice")


async def test_what_scripts_stored_is_there_after_a_restart(
    server: StackRedis, broker: RedisBroker, channel: str
) -> None:
    """Redis 8 replays the append-only file as the default user, and drops what that user may not do."""
    (position,) = await broker.append(channel, 0, [Record("room/1", b'{"n":1}')])
    server.kill()
    server.start()
    await broker.reconnect()
    (entry,) = await broker.range_back(channel, 0, "", limit=10)
    assert entry.position == position
