"""`redis+pubsub://`: the six coroutines over a real Redis, at most once, and a worker that knows when it is deaf."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from itertools import repeat
from typing import Any

import pytest
import redis.asyncio

from distributed_websocket import Message, RedisPubSubBroker, WebSocketManager, create_broker, feed, is_valid_broker
from distributed_websocket.brokers.interface import PROBE_TOPIC, LogBroker, ReadsBatches
from distributed_websocket.exceptions import BrokerError
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.redis_server import RedisServer, free_port
from tests.tcp_proxy import tcp_proxy
from tests.wire import RawWire, Wire

PROBE_SECONDS = 0.1
ANSWER_SECONDS = 0.3
"""For the tests of a worker that is deaf. Everywhere else a busy machine must not make it look so."""


def url_of(port: int) -> str:
    return f"redis+pubsub://127.0.0.1:{port}/0"


@pytest.fixture
async def broker(redis_server: RedisServer) -> AsyncIterator[RedisPubSubBroker]:
    broker = RedisPubSubBroker(url_of(redis_server.port))
    await broker.connect()
    yield broker
    await broker.disconnect()


async def heard(broker: RedisPubSubBroker, count: int) -> list[Message]:
    messages: list[Message] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(messages) < count:
            messages += await broker.get_messages(wait_seconds=0.1)
    return messages


async def subscribed(broker: RedisPubSubBroker, channel: str, server: RedisServer) -> None:
    await broker.subscribe(channel)
    await until_listened_to(channel, server, listeners=1)


async def until_listened_to(channel: str, server: RedisServer, listeners: int) -> None:
    """Redis counts a listener as soon as it has read the command."""
    async with redis.asyncio.Redis.from_url(server.url) as control, asyncio.timeout(DEADLINE_SECONDS):
        while (await control.pubsub_numsub(channel))[0][1] != listeners:  # noqa: ASYNC110 - Redis does not tell of it
            await asyncio.sleep(0.01)


async def test_the_url_chooses_it_and_it_has_no_log(broker: RedisPubSubBroker) -> None:
    for url in ("redis+pubsub://127.0.0.1:1/0", "rediss+pubsub://127.0.0.1:1/0"):
        made = create_broker(url)
        assert isinstance(made, RedisPubSubBroker)
        await made.disconnect()
    assert is_valid_broker(broker)
    assert not isinstance(broker, LogBroker)
    assert isinstance(broker, ReadsBatches)


async def test_the_six_coroutines_work_on_their_own(
    broker: RedisPubSubBroker, redis_server: RedisServer, channel: str
) -> None:
    assert await broker.get_message(wait_seconds=0.01) is None
    await broker.publish(channel, {"type": "send", "topic": "a", "n": 0})
    await subscribed(broker, channel, redis_server)
    await broker.publish(channel, Message(topic="a", data={"n": 1}))
    await broker.publish(channel, '{"topic":"a","n":2}')
    await broker.publish(channel, {"type": "send_by_conn_id", "conn_id": ["c1"], "n": 3})
    got = await heard(broker, 3)
    assert [(m.type, m.topic, m.conn_id, m.data["n"]) for m in got] == [
        ("send", "a", None, 1),
        ("send", "a", None, 2),
        ("send_by_conn_id", None, ["c1"], 3),
    ]
    await broker.unsubscribe(channel)
    await until_listened_to(channel, redis_server, listeners=0)
    await broker.publish(channel, {"topic": "a", "n": 4})
    await subscribed(broker, channel + "-other", redis_server)
    await broker.publish(channel + "-other", {"topic": "a", "n": 5})
    assert [message.data["n"] for message in await heard(broker, 1)] == [5]


async def test_what_is_there_at_once_comes_in_one_batch_up_to_a_limit(
    broker: RedisPubSubBroker, redis_server: RedisServer, channel: str
) -> None:
    await subscribed(broker, channel, redis_server)
    async with redis.asyncio.Redis.from_url(redis_server.url) as control, control.pipeline() as pipeline:
        for number in range(100):
            pipeline.publish(channel, b'{"topic":"a","n":%d}' % number)
        await pipeline.execute()
    batches: list[list[int]] = []
    while sum(map(len, batches)) < 100:
        batches.append([message.data["n"] for message in await broker.get_messages(wait_seconds=1, limit=60)])
    assert [number for batch in batches for number in batch] == list(range(100))
    assert max(map(len, batches)) == 60


async def test_what_another_program_put_into_the_channel_is_passed_over(
    broker: RedisPubSubBroker, redis_server: RedisServer, channel: str
) -> None:
    await subscribed(broker, channel, redis_server)
    async with redis.asyncio.Redis.from_url(redis_server.url) as control:
        for text in (b"\xff", b"no json", b"[1]", b'{"topic":"a","n":1}'):
            await control.publish(channel, text)
    assert [message.data["n"] for message in await heard(broker, 1)] == [1]


async def test_connecting_again_listens_to_the_same_channels(own_redis: RedisServer, channel: str) -> None:
    broker = RedisPubSubBroker(url_of(own_redis.port))
    await subscribed(broker, channel, own_redis)
    (before,) = await listeners_of(own_redis)
    await broker.connect()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await listeners_of(own_redis) in ([], [before]):  # noqa: ASYNC110 - Redis does not tell of it
            await asyncio.sleep(0.01)
    await until_listened_to(channel, own_redis, listeners=1)
    await broker.publish(channel, {"topic": "a", "n": 1})
    assert len(await heard(broker, 1)) == 1
    await broker.disconnect()


async def listeners_of(server: RedisServer) -> list[str]:
    """The connections that are subscribed to anything."""
    async with redis.asyncio.Redis.from_url(server.url) as control:
        return [client["id"] for client in await control.client_list(_type="pubsub")]


async def test_a_silent_channel_is_listened_to_for_as_long_as_was_asked(
    redis_server: RedisServer, channel: str
) -> None:
    """redis-py 8 gives up a socket that is silent for its command timeout: a listener waits on purpose."""
    broker = RedisPubSubBroker(url_of(redis_server.port))
    await subscribed(broker, channel, redis_server)
    await broker.publish(channel, {"topic": "a", "n": 1})
    await heard(broker, 1)  # and before it the answer to the subscription, which ends a wait
    broker._timeout_seconds = 0.1  # for what waits on purpose alone: on a busy machine a connection takes longer
    waiting = asyncio.create_task(broker.get_message(wait_seconds=60))
    await asyncio.sleep(0.5)  # longer than the command timeout
    assert not waiting.done()
    broker._timeout_seconds = 5.0
    await broker.publish(channel, {"topic": "a", "n": 2})
    message = await asyncio.wait_for(waiting, DEADLINE_SECONDS)
    assert message is not None
    assert message.data["n"] == 2
    await broker.disconnect()


async def test_a_redis_that_is_not_there_or_does_not_answer_is_a_broker_error(
    own_redis: RedisServer, channel: str
) -> None:
    nowhere = RedisPubSubBroker(url_of(free_port()))
    with pytest.raises(BrokerError, match="could not connect to Redis"):
        await nowhere.connect()
    with pytest.raises(BrokerError, match="could not subscribe to Redis"):
        await nowhere.subscribe(channel)
    await nowhere.disconnect()
    frozen = RedisPubSubBroker(own_redis.url.replace("redis:", "redis+pubsub:"))
    await frozen.connect()
    own_redis.freeze()
    frozen._timeout_seconds = 0.2
    with pytest.raises(BrokerError, match="could not publish to Redis within"):
        await frozen.publish(channel, {"topic": "a"})
    own_redis.thaw()
    frozen._timeout_seconds = 5.0
    await frozen.publish(channel, {"topic": "a"})
    await frozen.disconnect()


# Behind a manager


class Listener:
    """A client of a manager that subscribed to `room/1`."""

    def __init__(self, manager: WebSocketManager, raw: RawWire) -> None:
        self.manager = manager
        self.raw = raw

    def numbers(self) -> list[int]:
        return [message["n"] for message in self.raw.received if message["type"] == "send"]


@contextlib.asynccontextmanager
async def listening(
    channel: str, port: int, probe_seconds: float | None = PROBE_SECONDS, answer_seconds: float = DEADLINE_SECONDS
) -> AsyncIterator[Listener]:
    options: dict[str, Any] = {"probe_seconds": probe_seconds, "answer_seconds": answer_seconds}
    seconds = max(0.5, answer_seconds)
    async with WebSocketManager(channel, url_of(port), **options, command_timeout_seconds=seconds) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        raw = RawWire()
        connection = await manager.new_connection(Wire(raw).websocket, "c1", user="alice")
        await manager.receive(connection, {"type": "subscribe", "topic": "room/1", "ref": 1})
        await manager.receive(connection, {"type": "subscribe", "topic": "#"})
        yield Listener(manager, raw)


async def test_workers_hear_each_other_and_a_subscription_has_no_position(
    redis_server: RedisServer, channel: str
) -> None:
    async with listening(channel, redis_server.port) as one, listening(channel, redis_server.port) as other:
        assert one.raw.received[1] == {
            "type": "subscribed", "topic": "room/1", "position": None, "epoch": None, "ref": 1
        }  # fmt: skip
        (connection,) = one.manager
        await one.manager.receive(connection, {"type": "send", "topic": "room/1", "n": 0, "ref": "r"})
        for number in range(1, 50):
            one.manager.submit(Message(topic="room/1", data={"n": number}))
        for listener in (one, other):
            await eventually(lambda listener=listener: listener.numbers() == list(range(50)))  # type: ignore[misc]
        assert {"type": "ack", "ref": "r", "id": None} in one.raw.received


async def test_probes_reach_nobody(redis_server: RedisServer, channel: str) -> None:
    broker = RedisPubSubBroker(url_of(redis_server.port))
    await subscribed(broker, channel, redis_server)
    async with listening(channel, redis_server.port) as listener:
        probes = await heard(broker, 3)
        assert {message.topic for message in probes} == {PROBE_TOPIC}
        assert {message["type"] for message in listener.raw.received} == {"welcome", "subscribed"}
    await broker.disconnect()


async def test_after_its_connections_were_cut_a_worker_hears_again(
    own_redis: RedisServer, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "delays", lambda: repeat(0.1))  # it is not ready for long enough to be seen so
    async with listening(channel, own_redis.port) as listener:
        async with redis.asyncio.Redis.from_url(own_redis.url) as control:
            await control.client_kill_filter(_type="pubsub")
            await eventually(lambda: listener.manager.not_ready_reason is not None)
        await eventually(lambda: listener.manager.not_ready_reason is None)
        listener.manager.submit(Message(topic="room/1", data={"n": 1}))
        await eventually(lambda: listener.numbers() == [1])


async def test_a_frozen_redis_makes_the_worker_not_ready_until_it_answers_again(
    own_redis: RedisServer, channel: str
) -> None:
    async with listening(channel, own_redis.port, answer_seconds=ANSWER_SECONDS) as listener:
        own_redis.freeze()
        await eventually(lambda: listener.manager.not_ready_reason is not None)
        own_redis.thaw()
        await eventually(lambda: listener.manager.not_ready_reason is None)


@pytest.mark.parametrize("probe_seconds", [PROBE_SECONDS, None], ids=["with the probe", "with the probe off"])
async def test_a_worker_whose_connections_carry_nothing_heals_by_its_probe_and_starves_without_it(
    redis_server: RedisServer, channel: str, probe_seconds: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with (
        tcp_proxy(redis_server.port) as proxy,
        listening(channel, proxy.port, probe_seconds, ANSWER_SECONDS) as listener,
        listening(channel, redis_server.port) as healthy,
    ):
        proxy.swallow()

        async def publish() -> None:
            while True:
                healthy.manager.submit(Message(topic="room/1", data={"n": 1}))
                await asyncio.sleep(0.02)

        publishing = asyncio.create_task(publish())
        if probe_seconds is None:
            await asyncio.sleep(1.5)  # several times as long as a probe that is not heard takes to be missed
            await eventually(lambda: len(healthy.numbers()) > 10)
            assert listener.numbers() == []
            assert listener.manager.not_ready_reason is None
        else:
            await eventually(listener.numbers)
        publishing.cancel()
