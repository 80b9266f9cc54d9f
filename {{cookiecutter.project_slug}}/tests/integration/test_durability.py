"""Acknowledged means stored: in Redis's memory, on its disk, or on a replica, as was asked."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from distributed_websocket import RedisBroker, WebSocketManager
from distributed_websocket.brokers.interface import PROBE_TOPIC, Record
from distributed_websocket.exceptions import BrokerError
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.redis_deployments import Node, wait_for
from tests.redis_server import RedisServer, redis_versions
from tests.wire import RawWire, Wire

KNOWS_WAITAOF = {
    version: binary for version, binary in redis_versions().items() if version.split("-")[1].split(".") >= ["7", "2"]
}


def record(number: int = 1, key: str = "") -> Record:
    return Record("room/1", b'{"n":%d}' % number, (), key)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """A primary and its replica."""
    nodes = Node(tmp_path / "one"), Node(tmp_path / "two")
    try:
        for node in nodes:
            node.start()
        nodes[1].control.replicaof("127.0.0.1", nodes[0].port)
        wait_for(nodes[0].has_replica, "a replica")
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@pytest.fixture
async def replicated(pair: tuple[Node, Node]) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(pair[0].url, shards=1, durability="replica", command_timeout_seconds=DEADLINE_SECONDS)
    yield broker
    await broker.disconnect()


async def test_what_is_acknowledged_is_on_a_replica(
    replicated: RedisBroker, pair: tuple[Node, Node], channel: str
) -> None:
    positions = await replicated.append(channel, 0, [record(n) for n in range(100)])
    on_the_replica = pair[1].control.xrevrange(f"{{{channel}:0/1/1}}:log", count=1)
    assert on_the_replica[0][0] == positions[-1].encode()  # type: ignore[index]


async def test_without_a_replica_nothing_is_acknowledged_however_often_it_is_repeated(
    replicated: RedisBroker, pair: tuple[Node, Node], channel: str
) -> None:
    """The repetition stores nothing, and must wait for what the first try stored all the same."""
    impatient = RedisBroker(pair[0].url, shards=1, durability="replica", command_timeout_seconds=1)
    pair[1].freeze()
    for _ in range(3):
        with pytest.raises(BrokerError, match=r"stored, but not on a replica within 1 s"):
            await impatient.append(channel, 0, [record(key="k")])
        await impatient.reconnect()
    await impatient.disconnect()
    pair[1].thaw()
    (position,) = await replicated.append(channel, 0, [record(key="k")])
    assert (await replicated.extent(channel, 0)).added == 1
    assert (await replicated.extent(channel, 0)).last == position


async def test_probes_wait_for_no_replica(replicated: RedisBroker, pair: tuple[Node, Node], channel: str) -> None:
    """A worker to which nobody writes is ready whether or not there is a replica."""
    pair[1].freeze()
    await replicated.append(channel, 0, [Record(PROBE_TOPIC, b"{}")])
    pair[1].thaw()


async def test_a_sender_gets_its_ack_when_the_replica_is_back_and_the_worker_says_what_is_wrong(
    pair: tuple[Node, Node], channel: str
) -> None:
    async with WebSocketManager(
        channel, pair[0].url, durability="replica", command_timeout_seconds=0.5, probe_seconds=0.1
    ) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        raw = RawWire()
        connection = await manager.new_connection(Wire(raw).websocket, "c1", user="alice")
        await manager.receive(connection, {"type": "subscribe", "topic": "room/1"})
        pair[1].freeze()
        await manager.receive(connection, {"type": "send", "topic": "room/1", "n": 1, "ref": "r"})
        await manager.receive(connection, {"type": "send", "topic": "room/1", "n": 2})  # without a ref: not repeated
        await eventually(lambda: [m["n"] for m in raw.received if m["type"] == "send"] == [1, 2])
        await eventually(lambda: [m["code"] for m in raw.received if m["type"] == "error"] == ["unavailable"])
        await eventually(lambda: "the probe was not stored" in str(manager.not_ready_reason))
        assert not [m for m in raw.received if m["type"] == "ack"]
        pair[1].thaw()
        await eventually(lambda: any(m["type"] == "ack" for m in raw.received))
        await eventually(lambda: manager.not_ready_reason is None)
        assert [m["n"] for m in raw.received if m["type"] == "send"] == [1, 2]


# On disk


@pytest.fixture(params=KNOWS_WAITAOF)
def once_a_second(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that syncs its file once a second."""
    server = RedisServer(tmp_path, "--appendfsync", "everysec", binary=KNOWS_WAITAOF[request.param])
    server.start()
    yield server
    server.stop()


async def test_what_is_acknowledged_is_on_disk(once_a_second: RedisServer, channel: str) -> None:
    broker = RedisBroker(once_a_second.url, shards=1, durability="disk", command_timeout_seconds=DEADLINE_SECONDS)
    started = time.monotonic()
    for number in range(3):  # each waits for a sync of its own, and two whole seconds lie between three of them
        (position,) = await broker.append(channel, 0, [record(number)])
    assert time.monotonic() - started > 0.9  # Redis looks at its clock's seconds only
    await broker.disconnect()
    once_a_second.kill()
    once_a_second.start()
    reader = RedisBroker(once_a_second.url, shards=1)
    assert (await reader.extent(channel, 0)).last == position
    await reader.disconnect()


async def test_a_disk_that_is_too_slow_gives_no_ack(once_a_second: RedisServer, channel: str) -> None:
    async with redis.asyncio.Redis.from_url(once_a_second.url) as control:
        await control.config_set("appendfsync", "no")
    broker = RedisBroker(once_a_second.url, shards=1, durability="disk", command_timeout_seconds=1)
    for number in range(3):
        with pytest.raises(BrokerError, match="stored, but not on disk within 1 s"):
            await broker.append(channel, 0, [record(number)])
    await broker.disconnect()
    reader = RedisBroker(once_a_second.url, shards=1)
    assert (await reader.extent(channel, 0)).added == 3
    await reader.disconnect()


async def test_a_redis_that_writes_no_file_gives_no_ack(tmp_path: Path, channel: str) -> None:
    server = RedisServer(tmp_path, "--appendonly", "no")
    server.start()
    broker = RedisBroker(server.url, shards=1, durability="disk")
    with pytest.raises(BrokerError, match=r"could not append to Redis: .*(appendonly|unknown command)"):
        await broker.append(channel, 0, [record()])
    await broker.disconnect()
    server.stop()
