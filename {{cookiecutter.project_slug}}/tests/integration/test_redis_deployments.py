"""Sentinel and Cluster while people write: a primary dies or steps down, a slot moves.

What was acknowledged arrives once and in order, or everybody who might miss something is told so.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_websocket import Connection, InMemoryBroker, RedisBroker, WebSocketManager
from distributed_websocket.brokers.interface import LogBroker, Record
from distributed_websocket.exceptions import BrokerError
from distributed_websocket.positions import parse_position
from tests.deadline import eventually
from tests.redis_deployments import ClusterDeployment, Node, SentinelDeployment, running
from tests.wire import RawWire, Wire

SHARDS = 3
TAKE_OVER_SECONDS = 20.0
WORKERS = 2


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[SentinelDeployment]:
    deployment = SentinelDeployment(tmp_path)
    with running(deployment):
        yield deployment


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterDeployment]:
    deployment = ClusterDeployment(tmp_path)
    with running(deployment):
        yield deployment


class Room:
    """One topic with a listener on every worker; the listener on the first one also writes."""

    def __init__(self, managers: list[WebSocketManager], topic: str) -> None:
        self.managers = managers
        self.topic = topic
        self.raws = [RawWire() for _ in managers]
        self.sent = 0
        self._writer: Connection
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        for manager, raw in zip(self.managers, self.raws, strict=True):
            connection = await manager.new_connection(Wire(raw).websocket, "c", user="alice")
            await subscribe(manager, connection, raw, self.topic)
            if raw is self.raws[0]:
                self._writer = connection

    async def write(self, count: int) -> None:
        """Send, and wait for the acks."""
        for _ in range(count):
            request = {"type": "send", "topic": self.topic, "n": self.sent, "ref": f"r{self.sent}"}
            await self.managers[0].receive(self._writer, request)
            self.sent += 1
        await eventually(lambda: self.sent == len(self.acked()) + len(self.refused()), TAKE_OVER_SECONDS)

    async def _write_on(self) -> None:
        while True:
            await self.write(5)
            await asyncio.sleep(0.01)  # for the pace

    @contextlib.asynccontextmanager
    async def written_to(self) -> AsyncIterator[None]:
        """Somebody writes, at least a hundred messages after the block too."""
        task = asyncio.create_task(self._write_on())
        try:
            yield
            enough = len(self.acked()) + 100
            await eventually(lambda: len(self.acked()) >= enough or task.done(), TAKE_OVER_SECONDS)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await eventually(lambda: self.sent == len(self.acked()) + len(self.refused()), TAKE_OVER_SECONDS)

    def acked(self) -> list[int]:
        return [int(m["ref"][1:]) for m in self.raws[0].received if m["type"] == "ack"]

    def refused(self) -> list[int]:
        return [int(m["ref"][1:]) for m in self.raws[0].received if m["type"] == "error"]

    def got(self, worker: int) -> list[int]:
        return [m["n"] for m in self.raws[worker].received if m["type"] == "send"]

    def told_of_a_hole(self, worker: int) -> bool:
        return any(m["type"] == "subscribed" and m.get("recovered") is False for m in self.raws[worker].received)

    async def judge(self) -> None:
        """Everybody has everything that was acknowledged, once and in one order."""
        acked = set(self.acked())
        for worker, raw in enumerate(self.raws):
            await eventually(lambda worker=worker: acked <= set(self.got(worker)), TAKE_OVER_SECONDS)  # type: ignore[misc]
            assert not self.told_of_a_hole(worker)
            got = self.got(worker)
            assert len(got) == len(set(got))
            ids = [parse_position(m["id"]) for m in raw.received if m["type"] == "send"]
            assert ids == sorted(ids)


async def subscribe(
    manager: WebSocketManager, connection: Connection, raw: RawWire, topic: str, **more: object
) -> dict[str, Any]:
    """The answer to a subscription, which is repeated, as a client does, while it is refused for now."""
    async with asyncio.timeout(TAKE_OVER_SECONDS):
        while True:
            await manager.receive(connection, {"type": "subscribe", "topic": topic, "ref": "s", **more})
            answer = next(m for m in reversed(raw.received) if m.get("ref") == "s")
            if answer["type"] == "subscribed":
                return answer
            assert answer["code"] == "unavailable"
            raw.writes.clear()
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def rooms(url: str, channel: str, *topics: str) -> AsyncIterator[list[Room]]:
    async with contextlib.AsyncExitStack() as stack:
        managers = []
        for _ in range(WORKERS):
            manager = WebSocketManager(
                channel, url, shards=SHARDS, probe_seconds=0.2, answer_seconds=1.0, command_timeout_seconds=1.0
            )
            managers.append(await stack.enter_async_context(manager))
        opened = [Room(managers, topic) for topic in topics]
        for manager in managers:
            await eventually(lambda manager=manager: manager.not_ready_reason is None)  # type: ignore[misc]
        for room in opened:
            await room.open()
        yield opened


async def ready(room: Room) -> None:
    for manager in room.managers:
        await eventually(lambda manager=manager: manager.not_ready_reason is None, TAKE_OVER_SECONDS)  # type: ignore[misc]


# Sentinel


async def test_a_replica_takes_over_from_a_primary_that_died(sentinel: SentinelDeployment, channel: str) -> None:
    async with rooms(sentinel.url, channel, "room/1") as (room,):
        async with room.written_to():
            await eventually(lambda: len(room.acked()) > 50)
            sentinel.primary.kill()
        assert sentinel.primary is sentinel.nodes[1]
        await room.judge()
        await ready(room)


async def test_a_primary_that_steps_down_is_left(sentinel: SentinelDeployment, channel: str) -> None:
    """It stays up and answers: as a replica it would be read from for ever, and refuse every write."""
    old, new = sentinel.nodes
    async with rooms(sentinel.url, channel, "room/1") as (room,):
        begun = await epoch_of(room)
        async with room.written_to():
            await eventually(lambda: len(room.acked()) > 50)
            sentinel.fail_over()
            await eventually(lambda: not old.is_primary() and new.is_primary(), TAKE_OVER_SECONDS)
        await ready(room)
        # Nobody is left behind on the old one, cut off from the new.
        new.cut_off_replicas()
        room.sent = 1_000_000
        await write_and_hear(room, 20)
        if await epoch_of(room) != begun:
            # It took writes after the new one was chosen; they are gone, and everybody is told.
            await eventually(lambda: all(room.told_of_a_hole(worker) for worker in range(WORKERS)), TAKE_OVER_SECONDS)
        else:
            await room.judge()


async def epoch_of(room: Room) -> str:
    """The name of the present life of the room's log: what a writer or a reader misses begins another one."""
    manager = room.managers[0]
    assert isinstance(manager.broker, LogBroker)
    return (await manager.broker.extent(manager.broker_channel, manager.broker.shard_of(room.topic))).epoch


async def write_and_hear(room: Room, count: int) -> None:
    for _ in range(count):
        room.sent += 1
        request = {"type": "send", "topic": room.topic, "n": room.sent, "ref": f"r{room.sent}"}
        await room.managers[0].receive(room._writer, request)
    for worker in range(WORKERS):
        await eventually(lambda worker=worker: room.sent in room.got(worker), TAKE_OVER_SECONDS)  # type: ignore[misc]


async def test_what_a_primary_took_to_its_grave_is_told_to_everybody(
    sentinel: SentinelDeployment, channel: str
) -> None:
    await losing(sentinel.url, channel, sentinel.nodes[0], sentinel.nodes[1], "room/1")


async def losing(url: str, channel: str, primary: Node, replica: Node, topic: str) -> None:
    """Replication lags, by ten acknowledged messages, when the primary dies."""
    async with rooms(url, channel, topic) as (room,):
        await room.write(10)
        primary.cut_off_replicas()
        await room.write(10)
        assert room.refused() == []
        await eventually(lambda: all(room.got(worker) == list(range(20)) for worker in range(WORKERS)))
        primary.kill()
        await eventually(replica.is_primary, TAKE_OVER_SECONDS)
        await eventually(lambda: all(room.told_of_a_hole(worker) for worker in range(WORKERS)), TAKE_OVER_SECONDS)
        await ready(room)
        await write_and_hear(room, 5)
        # Somebody who had them, and comes back, is told as well.
        before = next(m["epoch"] for m in room.raws[1].received if m["type"] == "subscribed")
        last = [m["id"] for m in room.raws[1].received if m["type"] == "send"][19]
        raw = RawWire()
        connection = await room.managers[1].new_connection(Wire(raw).websocket, "again", user="bob")
        since = {"position": last, "epoch": before}
        answer = await subscribe(room.managers[1], connection, raw, topic, since=since)
        assert answer["recovered"] is False


async def test_a_worker_tells_of_a_loss_that_nobody_else_can_know_of(
    sentinel: SentinelDeployment, channel: str
) -> None:
    """It was given a position, and nobody read the entry: its next append says so, whatever others appended before."""
    knowing, other = (RedisBroker(sentinel.url, shards=1) for _ in range(2))
    await append(other, channel, 1)
    begun = await other.extent(channel, 0)
    sentinel.nodes[0].cut_off_replicas()
    await append(knowing, channel, 2)
    sentinel.nodes[0].kill()
    await append(other, channel, 3)
    assert (await other.extent(channel, 0, known=(begun.last, begun.epoch))).epoch == begun.epoch
    await append(knowing, channel, 4)
    assert (await other.extent(channel, 0)).epoch != begun.epoch
    entries = await other.range(channel, 0, "0-0", "9999999999999-0", limit=9)
    assert [entry.body for entry in entries] == [b'{"n":1}', b'{"n":3}', b'{"n":4}']
    await knowing.disconnect()
    await other.disconnect()


async def append(broker: RedisBroker, channel: str, number: int, shard: int = 0) -> None:
    """As a publisher does: again and again, with a key, while there is no primary."""
    async with asyncio.timeout(TAKE_OVER_SECONDS):
        while True:
            try:
                await broker.append(channel, shard, [Record("room/1", b'{"n":%d}' % number, key=str(number))])
                return
            except BrokerError:
                await asyncio.sleep(0.1)


# Cluster


def topics() -> dict[int, str]:
    """A topic in each shard."""
    shards = InMemoryBroker(shards=SHARDS)
    names: dict[int, str] = {}
    for number in range(100):
        names.setdefault(shards.shard_of(f"t{number}"), f"t{number}")
    return names


def log_key(channel: str, shard: int) -> str:
    return f"{{{channel}:{shard}/{SHARDS}/1}}:log"


async def test_a_replica_takes_over_from_a_dead_primary_of_a_cluster(cluster: ClusterDeployment, channel: str) -> None:
    channel, shard = on_the_first_node(cluster, channel)
    async with rooms(cluster.url, channel, *topics().values()) as opened:
        async with contextlib.AsyncExitStack() as stack:
            for room in opened:
                await stack.enter_async_context(room.written_to())
            await eventually(lambda: all(len(room.acked()) > 50 for room in opened))
            cluster.nodes[0].kill()
        assert cluster.owner_of(log_key(channel, shard)) is cluster.replica
        for room in opened:
            await room.judge()
            await ready(room)


def on_the_first_node(cluster: ClusterDeployment, channel: str) -> tuple[str, int]:
    """A channel with a shard on the primary that has a replica."""
    for number in range(100):
        name = f"{channel}-{number}"
        for shard in range(SHARDS):
            if cluster.owner_of(log_key(name, shard)) is cluster.nodes[0]:
                return name, shard
    raise AssertionError("no shard there")


async def test_a_slot_moves_to_another_node(cluster: ClusterDeployment, channel: str) -> None:
    async with rooms(cluster.url, channel, *topics().values()) as opened:
        async with contextlib.AsyncExitStack() as stack:
            for room in opened:
                await stack.enter_async_context(room.written_to())
            await eventually(lambda: all(len(room.acked()) > 50 for room in opened))
            source = cluster.owner_of(log_key(channel, 1))
            target = next(node for node in cluster.primaries if node is not source)
            await asyncio.to_thread(cluster.move, log_key(channel, 1), target)
        assert cluster.owner_of(log_key(channel, 1)) is target
        for room in opened:
            assert room.refused() == []
            await room.judge()
            await ready(room)


async def test_while_its_slot_moves_a_broker_refuses_nothing(cluster: ClusterDeployment, channel: str) -> None:
    """What a node did not carry out may be sent again, even without a key."""
    broker = RedisBroker(cluster.url, shards=1)
    key = f"{{{channel}:0/1/1}}:log"
    source = cluster.owner_of(key)
    target = next(node for node in cluster.primaries if node is not source)
    moving: asyncio.Task[None] | None = None
    sent = enough = 0
    while moving is None or not moving.done() or sent < enough:
        if sent == 20:
            moving = asyncio.create_task(asyncio.to_thread(cluster.move, key, target))
        await broker.append(channel, 0, [Record("room/1", b'{"n":%d}' % sent), Record("room/1", b"{}", key=str(sent))])
        sent += 1
        if moving is None or not moving.done():
            enough = sent + 10
        await asyncio.sleep(0.002)
    await moving
    entries = await broker.range(channel, 0, "0-0", "9999999999999-0", limit=10_000)
    assert [entry.body for entry in entries if entry.body != b"{}"] == [b'{"n":%d}' % n for n in range(sent)]
    assert len(entries) == 2 * sent
    await broker.disconnect()


async def test_a_broker_finds_the_new_primary_by_itself(cluster: ClusterDeployment, channel: str) -> None:
    channel, shard = on_the_first_node(cluster, channel)
    broker = RedisBroker(cluster.url, shards=SHARDS)
    await append(broker, channel, 1, shard)
    cluster.nodes[0].kill()
    await append(broker, channel, 2, shard)
    assert (await broker.extent(channel, shard)).added == 2
    await broker.disconnect()


async def test_what_a_primary_of_a_cluster_took_to_its_grave_is_told_to_everybody(
    cluster: ClusterDeployment, channel: str
) -> None:
    channel, shard = on_the_first_node(cluster, channel)
    await losing(cluster.url, channel, cluster.nodes[0], cluster.replica, topics()[shard])
