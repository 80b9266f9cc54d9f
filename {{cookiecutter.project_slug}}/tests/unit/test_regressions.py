"""Every fault that the original library had, and two of its rivals: each test tells its story in one sentence.

Those of its topic matching are in `test_topics.py`, of its authentication in `test_auth.py` and `test_origin.py`, of
its proxy in `integration/proxy/test_proxy.py`. That it had no heartbeat is in `test_server.py`, and no metrics in
`integration/test_metrics.py`.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from fastapi import WebSocket

from distributed_websocket import Connection, Limits, Message, WebSocketException, WebSocketManager
from distributed_websocket.brokers.interface import Entry, Record
from distributed_websocket.exceptions import BrokerError
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.faulty_broker import FaultyBroker
from tests.plain_brokers import PlainBroker
from tests.redis_server import RedisServer
from tests.wire import Wire


@pytest.fixture
async def manager() -> AsyncIterator[WebSocketManager]:
    async with WebSocketManager("channel") as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        yield manager


async def join(manager: WebSocketManager, conn_id: str = "c1", topic: str | None = "room/1") -> tuple[Connection, Wire]:
    wire = Wire()
    return await manager.new_connection(wire.websocket, conn_id, topic), wire


async def serve_all(manager: WebSocketManager, count: int) -> tuple[list[Wire], "list[asyncio.Task[None]]"]:
    """Clients in one room, each with its endpoint running."""
    made = [await join(manager, f"c{number}") for number in range(count)]
    return [wire for _, wire in made], [asyncio.create_task(manager.serve(connection)) for connection, _ in made]


def numbers(wire: Wire) -> list[int]:
    return [message["n"] for message in wire.received if "n" in message]


# The listener


@pytest.mark.parametrize("log", [True, False], ids=["log", "plain"])
async def test_the_first_error_of_the_broker_made_the_worker_deaf_for_ever(log: bool) -> None:
    """Its listener had no `except`, and nobody watched the task."""
    broker = FaultyBroker() if log else PlainBroker()
    async with WebSocketManager("channel", broker=broker) as manager:
        _, wire = await join(manager)
        await eventually(lambda: manager.not_ready_reason is None)
        if isinstance(broker, FaultyBroker):
            broker.fail("read", BrokerError("connection lost"))
            await broker.append("channel", 0, [Record("room/1", b'{"n":0}')])
        else:
            broker.failing |= {"get_message", "connect"}
        await eventually(lambda: manager.not_ready_reason is not None)
        if isinstance(broker, FaultyBroker):
            broker.heal()
        else:
            broker.failing.clear()
        await eventually(lambda: manager.not_ready_reason is None)
        manager.submit(Message(topic="room/1", data={"n": 1}))
        await eventually(lambda: numbers(wire)[-1:] == [1])


async def test_an_idle_listener_kept_a_core_busy() -> None:
    """It asked the broker for a message with a timeout of nothing, again and again."""
    broker = PlainBroker(patience_seconds=0)
    async with WebSocketManager("channel", broker=broker) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        asked, since = broker.asked, time.monotonic()
        await asyncio.sleep(0.2)  # long enough to tell a hundred times a second from thousands
        assert broker.asked - asked <= 125 * (time.monotonic() - since)


async def test_a_listener_that_begins_anew_at_the_end_missed_what_came_between_two_reads() -> None:
    """The streams adapter of Socket.IO reads from "$" until its first entry: what lands between two reads is lost."""

    class Between(FaultyBroker):
        async def read(self, channel: str, shard: int, after: str, *, limit: int, wait_seconds: float) -> list[Entry]:
            entries = await super().read(channel, shard, after, limit=limit, wait_seconds=min(wait_seconds, 0.01))
            if not entries and self.reads == 3:
                await self.append(channel, shard, [Record("room/1", b'{"n":1}')])
            return entries

    async with WebSocketManager("channel", broker=Between(), probe_seconds=None) as manager:
        _, wire = await join(manager)
        await eventually(lambda: numbers(wire) == [1])


# Delivery


async def test_one_slow_client_delayed_all_who_came_after_it(manager: WebSocketManager) -> None:
    wires = [(await join(manager, f"c{number}"))[1] for number in range(5)]
    wires[0].stall()
    manager.broadcast({"n": 1})
    await eventually(lambda: all(numbers(wire) == [1] for wire in wires[1:]))
    assert numbers(wires[0]) == []
    wires[0].resume()
    await eventually(lambda: numbers(wires[0]) == [1])


async def test_one_dead_client_ended_the_delivery_to_all_who_came_after_it(manager: WebSocketManager) -> None:
    wires = [(await join(manager, f"c{number}"))[1] for number in range(5)]
    await eventually(lambda: all(wire.received for wire in wires))  # they are welcomed
    wires[1].failure = OSError("gone")
    for number in range(3):
        manager.submit(Message(topic="room/1", data={"n": number}))
    await eventually(lambda: all(numbers(wire) == [0, 1, 2] for wire in (wires[0], *wires[2:])))


async def test_clients_that_left_while_a_message_was_sent_made_others_miss_it(manager: WebSocketManager) -> None:
    """The list of connections was changed while it was iterated over, with an await for each."""
    made = [await join(manager, f"c{number}") for number in range(10)]
    for number in range(20):
        manager.submit(Message(topic="room/1", data={"n": number}))
    for connection, _ in made[::2]:
        await asyncio.sleep(0)  # one step of the delivery after the other
        manager.remove_connection(connection)
    await eventually(lambda: all(numbers(wire) == list(range(20)) for _, wire in made[1::2]))


async def test_each_message_left_a_task_behind(manager: WebSocketManager) -> None:
    _, wire = await join(manager)
    tasks = asyncio.all_tasks()
    for number in range(500):
        manager.send({"topic": "room/1", "n": number})
        manager.submit(Message(topic="room/1", data={"n": number}))
    await eventually(lambda: len(numbers(wire)) == 1_000)
    await eventually(lambda: asyncio.all_tasks() <= tasks)


async def test_shutting_down_skipped_every_second_connection(manager: WebSocketManager) -> None:
    wires, endpoints = await serve_all(manager, 6)
    await manager.shutdown()
    assert all(wire.close_codes for wire in wires)
    await asyncio.wait_for(asyncio.gather(*endpoints), DEADLINE_SECONDS)


# What clients send


async def test_one_malformed_frame_could_stop_a_room(manager: WebSocketManager) -> None:
    """It became `None`, its handler died without removing the connection, and delivery ended at the dead connection."""
    wires, endpoints = await serve_all(manager, 3)
    for frame in ("{", "null", "[]", b"\x00", '{"type":null}'):
        wires[0].say(frame)
    wires[0].say({"type": "send", "topic": "room/1", "n": 1})
    await eventually(lambda: all(numbers(wire) == [1] for wire in wires))
    for wire in wires:
        wire.vanish()
    await asyncio.wait_for(asyncio.gather(*endpoints), DEADLINE_SECONDS)
    assert len(manager) == 0


@pytest.mark.parametrize("name", [name for name, _ in inspect.getmembers(WebSocketManager) if name != "broadcast"])
async def test_the_type_of_a_message_chose_a_method_of_the_manager(manager: WebSocketManager, name: str) -> None:
    connection, wire = await join(manager)
    known = {"send", "send_by_conn_id", "presence"}
    await manager.receive(connection, {"type": name, "ref": "r"})
    await connection.outbox.flushed()
    answer = wire.received[-1]
    assert answer["type"] == "error"
    assert answer["code"] == ("invalid_message" if name in known else "unknown_type")
    assert manager.not_ready_reason is None


async def test_the_dicts_of_iter_json_went_where_only_messages_were_understood(manager: WebSocketManager) -> None:
    connection, wire = await join(manager)
    fields: dict[str, Any] = {"type": "send", "topic": "room/1", "n": 1}
    await manager.receive(connection, fields)
    manager.send(fields)
    await eventually(lambda: numbers(wire) == [1, 1])
    assert fields == {"type": "send", "topic": "room/1", "n": 1}


async def test_any_client_could_write_to_any_connection(manager: WebSocketManager) -> None:
    connection, wire = await join(manager, "attacker")
    _, victim = await join(manager, "victim")
    for fields in (
        {"type": "send_by_conn_id", "conn_id": "victim"},
        {"type": "send_by_conn_id", "conn_id": ["victim"]},
        {"type": "send", "topic": "room/2", "conn_id": "victim"},
        {"type": "broadcast"},
    ):
        await manager.receive(connection, {**fields, "n": 1})
    await connection.outbox.flushed()
    assert [message["type"] for message in wire.received] == ["welcome", *["error"] * 4]
    manager.submit(Message(topic="room/1", data={"n": 2}))
    await eventually(lambda: numbers(victim) == [2])


async def test_what_was_sent_to_a_connection_lost_its_type(manager: WebSocketManager) -> None:
    _, wire = await join(manager, "c1")
    manager.submit(Message(type="send_by_conn_id", conn_id="c1", data={"n": 1}))
    await eventually(lambda: numbers(wire) == [1])
    assert wire.received[-1]["type"] == "send_by_conn_id"


async def test_a_message_could_not_be_told_from_another(manager: WebSocketManager) -> None:
    """There was no id: after a reconnect nobody knew what was missing."""
    _, wire = await join(manager)
    for _ in range(2):
        manager.submit(Message(topic="room/1", data={"n": 1}))
    await eventually(lambda: len(numbers(wire)) == 2)
    assert len({message["id"] for message in wire.received[1:]}) == 2


async def test_one_client_could_say_as_much_and_as_often_as_it_liked() -> None:
    """There was no limit of any kind."""
    limits = Limits(message_bytes=100, messages_per_second=0.001, message_burst=3, subscriptions=1)
    async with WebSocketManager("channel", limits=limits) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        (wire,), _ = await serve_all(manager, 1)
        wire.say({"type": "send", "topic": "room/1", "n": "x" * 100})
        wire.say({"type": "subscribe", "topic": "room/2"})
        wire.say({"type": "send", "topic": "room/1", "n": 1})
        wire.say({"type": "send", "topic": "room/1", "n": 2})
        await eventually(lambda: len(wire.received) == 5)
        errors = [message["code"] for message in wire.received if message["type"] == "error"]
        assert errors == ["too_large", "too_many_subscriptions", "rate_limited"]
        await eventually(lambda: numbers(wire) == [1])


# Exceptions


def test_its_exceptions_went_past_every_except_exception() -> None:
    """They were `BaseException`s: one of them ended the event loop's task instead of the request."""
    assert issubclass(WebSocketException, Exception)


async def test_an_endpoint_that_failed_left_its_connection_in_the_list(manager: WebSocketManager) -> None:
    class Failing(WebSocket):
        async def receive(self) -> Any:
            raise RuntimeError("the endpoint failed")

    wire = Wire()
    connection = await manager.new_connection(wire.websocket, "c1")
    connection.websocket = Failing(wire.scope, wire.websocket._receive, wire.websocket._send)
    with pytest.raises(RuntimeError, match="the endpoint failed"):
        await manager.serve(connection)
    assert len(manager) == 0


# A rival's


async def test_each_published_message_opened_a_connection_to_the_broker(
    redis_server: RedisServer, channel: str
) -> None:
    """fastapi_websocket_pubsub opens a broadcaster for each note."""
    async with (
        redis.asyncio.Redis.from_url(redis_server.url) as control,
        WebSocketManager(channel, redis_server.url, shards=1) as manager,
    ):
        await eventually(lambda: manager.not_ready_reason is None)
        made = (await control.info("stats"))["total_connections_received"]
        _, wire = await join(manager)
        for number in range(200):
            manager.submit(Message(topic="room/1", data={"n": number}))
            await asyncio.sleep(0)  # a step of the publisher: they are many batches
        await eventually(lambda: len(numbers(wire)) == 200)
        assert (await control.info("stats"))["total_connections_received"] - made <= 3
