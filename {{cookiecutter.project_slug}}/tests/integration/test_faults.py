"""Faults of the way to Redis, made for real: nothing lost, nothing twice, and the worker knows when it is deaf."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio

from distributed_websocket import Connection, Message, WebSocketManager
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.redis_server import RedisServer, free_port
from tests.tcp_proxy import tcp_proxy
from tests.wire import RawWire, Wire

PROBE_SECONDS = 0.1
ANSWER_SECONDS = 0.3


class Listener:
    """A client of a manager that subscribed to `room/1`."""

    def __init__(self, manager: WebSocketManager, raw: RawWire, connection: Connection) -> None:
        self.manager = manager
        self.raw = raw
        self.connection = connection
        self.subscribed = raw.received[-1]
        """The answer to its request."""

    def numbers(self) -> list[int]:
        return [message["n"] for message in self.raw.received if message["type"] == "send"]

    def holes(self) -> list[str]:
        """Topics that it was told, without asking, not to have recovered."""
        return [m["topic"] for m in self.raw.received if m["type"] == "subscribed" and m.get("recovered") is False]


async def listen(manager: WebSocketManager) -> Listener:
    raw = RawWire()
    connection = await manager.new_connection(Wire(raw).websocket, "c1", user="alice")
    async with asyncio.timeout(DEADLINE_SECONDS):
        # Again, as clients do: within `ANSWER_SECONDS` a busy machine does not always open a log.
        while raw.received[-1]["type"] != "subscribed":
            await manager.receive(connection, {"type": "subscribe", "topic": "room/1"})
    return Listener(manager, raw, connection)


Start = Callable[..., "asyncio.Future[WebSocketManager]"]


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


async def manage(
    stack: contextlib.AsyncExitStack, port: int, channel: str, probe_seconds: float | None = PROBE_SECONDS
) -> WebSocketManager:
    manager = await stack.enter_async_context(
        WebSocketManager(
            channel,
            broker_url=f"redis://127.0.0.1:{port}/0",
            probe_seconds=probe_seconds,
            answer_seconds=ANSWER_SECONDS,
            command_timeout_seconds=0.5,
        )
    )
    await eventually(lambda: manager.not_ready_reason is None)
    return manager


def publish(manager: WebSocketManager, *numbers: int) -> None:
    for number in numbers:
        manager.submit(Message(topic="room/1", data={"n": number}))


async def store(manager: WebSocketManager, sender: Listener, *numbers: int) -> None:
    """Publish with a ref, as clients do who want to be sure, and wait for the acks."""
    before = sum(message["type"] == "ack" for message in sender.raw.received)
    for number in numbers:
        await manager.receive(sender.connection, {"type": "send", "topic": "room/1", "n": number, "ref": f"r{number}"})
    await eventually(lambda: sum(m["type"] == "ack" for m in sender.raw.received) == before + len(numbers))


async def test_cutting_a_workers_connections_loses_and_doubles_nothing(
    stack: contextlib.AsyncExitStack, own_redis: RedisServer, channel: str
) -> None:
    manager = await manage(stack, own_redis.port, channel)
    listener = await listen(manager)
    async with redis.asyncio.Redis.from_url(own_redis.url) as control:
        for round_ in range(5):
            sending = asyncio.create_task(store(manager, listener, *range(round_ * 20, round_ * 20 + 20)))
            await asyncio.sleep(0)
            await control.client_kill_filter(_type="normal", skipme=True)
            await sending
    await eventually(lambda: len(listener.numbers()) >= 100)
    assert listener.numbers() == list(range(100))
    assert listener.holes() == []
    await eventually(lambda: manager.not_ready_reason is None)


async def test_a_frozen_redis_makes_the_worker_not_ready_until_it_answers_again(
    stack: contextlib.AsyncExitStack, own_redis: RedisServer, channel: str
) -> None:
    manager = await manage(stack, own_redis.port, channel)
    listener = await listen(manager)
    own_redis.freeze()
    await eventually(lambda: manager.not_ready_reason is not None)
    sending = asyncio.create_task(store(manager, listener, 1, 2, 3))
    await eventually(lambda: manager.feed.publisher.waiting_bytes)  # type: ignore[attr-defined]
    own_redis.thaw()
    await sending
    await eventually(lambda: manager.not_ready_reason is None)
    await eventually(lambda: listener.numbers() == [1, 2, 3])


async def test_a_restarted_redis_loses_nothing_that_was_acknowledged(
    stack: contextlib.AsyncExitStack, own_redis: RedisServer, channel: str
) -> None:
    manager = await manage(stack, own_redis.port, channel)
    listener = await listen(manager)
    await store(manager, listener, 1, 2)
    own_redis.kill()
    sending = asyncio.create_task(store(manager, listener, 3, 4))
    await eventually(lambda: manager.not_ready_reason is not None)
    own_redis.start()
    await sending
    await eventually(lambda: manager.not_ready_reason is None)
    await eventually(lambda: listener.numbers() == [1, 2, 3, 4])
    assert listener.holes() == []


async def test_a_flushed_redis_is_told_to_everybody_as_a_hole(
    stack: contextlib.AsyncExitStack, own_redis: RedisServer, channel: str
) -> None:
    one, other = await manage(stack, own_redis.port, channel), await manage(stack, own_redis.port, channel)
    listeners = [await listen(one), await listen(other)]
    await store(one, listeners[0], 1)
    old = listeners[0].subscribed
    async with redis.asyncio.Redis.from_url(own_redis.url) as control:
        await control.flushall()
    await eventually(lambda: all(listener.holes() == ["room/1"] for listener in listeners))
    await store(other, listeners[1], 2)
    await eventually(lambda: all(listener.numbers() == [1, 2] for listener in listeners))
    since = {"position": old["position"], "epoch": old["epoch"]}
    await one.receive(listeners[0].connection, {"type": "subscribe", "topic": "room/1", "since": since})
    assert listeners[0].raw.received[-1]["recovered"] is False


async def starved(stack: contextlib.AsyncExitStack, server: RedisServer, channel: str, probe: float | None) -> Listener:
    """A listener whose worker's connections carry nothing any more, though they are open; and 1 to 3 were published."""
    proxy = await stack.enter_async_context(tcp_proxy(server.port))
    behind = await manage(stack, proxy.port, channel, probe_seconds=probe)
    listener = await listen(behind)
    healthy = await manage(stack, server.port, channel)
    publish(healthy, 0)
    await eventually(lambda: listener.numbers() == [0])
    proxy.swallow()
    publish(healthy, 1, 2, 3)
    await healthy.feed.publisher.close(5)  # type: ignore[attr-defined]
    return listener


async def test_with_the_probe_a_worker_whose_connections_carry_nothing_heals(
    stack: contextlib.AsyncExitStack, redis_server: RedisServer, channel: str
) -> None:
    listener = await starved(stack, redis_server, channel, PROBE_SECONDS)
    await eventually(lambda: listener.numbers() == [0, 1, 2, 3])
    await eventually(lambda: listener.manager.not_ready_reason is None)
    assert listener.holes() == []


async def test_with_the_probe_off_the_same_fault_starves_it_while_it_says_that_it_is_ready(
    stack: contextlib.AsyncExitStack, redis_server: RedisServer, channel: str
) -> None:
    listener = await starved(stack, redis_server, channel, None)
    with pytest.raises(AssertionError, match="not within"):
        await eventually(lambda: len(listener.numbers()) > 1, within_seconds=2)
    assert listener.manager.not_ready_reason is None


async def test_a_partitioned_worker_is_not_ready_and_catches_up_when_it_is_back(
    stack: contextlib.AsyncExitStack, redis_server: RedisServer, channel: str
) -> None:
    proxy = await stack.enter_async_context(tcp_proxy(redis_server.port))
    behind = await manage(stack, proxy.port, channel)
    listener = await listen(behind)
    healthy = await manage(stack, redis_server.port, channel)
    proxy.cut()
    await eventually(lambda: behind.not_ready_reason is not None)
    publish(healthy, *range(50))
    await healthy.feed.publisher.close(5)  # type: ignore[attr-defined]
    proxy.refusing = False
    await eventually(lambda: len(listener.numbers()) == 50)
    assert listener.numbers() == list(range(50))
    await eventually(lambda: behind.not_ready_reason is None)


async def test_a_redis_that_became_a_replica_makes_the_worker_not_ready_until_it_is_promoted(
    stack: contextlib.AsyncExitStack, own_redis: RedisServer, channel: str
) -> None:
    """It answers everything, its connections are healthy, and nothing new ever arrives on it."""
    manager = await manage(stack, own_redis.port, channel)
    listener = await listen(manager)
    await store(manager, listener, 1)
    async with redis.asyncio.Redis.from_url(own_redis.url) as control:
        await control.replicaof("127.0.0.1", free_port())
        await eventually(lambda: manager.not_ready_reason is not None)
        sending = asyncio.create_task(store(manager, listener, 2))
        await control.replicaof("NO", "ONE")
        await sending
    await eventually(lambda: manager.not_ready_reason is None)
    await eventually(lambda: listener.numbers() == [1, 2])
    assert listener.holes() == []


async def test_a_worker_that_starts_before_redis_becomes_ready_with_it(own_redis: RedisServer, channel: str) -> None:
    own_redis.stop()
    async with WebSocketManager(channel, broker_url=own_redis.url, answer_seconds=ANSWER_SECONDS) as manager:
        await eventually(
            lambda: "Connection refused" in str(manager.not_ready_reason) or "111" in str(manager.not_ready_reason)
        )
        own_redis.start()
        await eventually(lambda: manager.not_ready_reason is None)
