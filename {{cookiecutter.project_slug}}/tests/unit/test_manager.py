"""This worker's connections on one side, all workers on the other."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import WebSocketDisconnect

from distributed_websocket import (
    BrokerError,
    BrokerInterface,
    CloseCode,
    Connection,
    InvalidMessage,
    InvalidSubscription,
    Limits,
    Message,
    Policy,
    WebSocketManager,
)
from distributed_websocket import (
    manager as module,
)
from distributed_websocket.brokers.memory import InMemoryBroker
from distributed_websocket.brokers.redis_streams import RedisBroker
from tests.deadline import eventually
from tests.faulty_broker import FaultyBroker
from tests.plain_brokers import PlainBroker
from tests.wire import RawWire, Wire


@pytest.fixture
async def manager() -> AsyncIterator[WebSocketManager]:
    async with WebSocketManager("channel", broker_url="memory://", worker="chat-1") as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        yield manager


async def join(manager: WebSocketManager, conn_id: str = "c1", **options: Any) -> tuple[Connection, RawWire]:
    raw = RawWire()
    return await manager.new_connection(Wire(raw).websocket, conn_id, **options), raw


def types(raw: RawWire) -> list[str]:
    return [message["type"] for message in raw.received]


# Making one


async def test_the_broker_comes_from_a_url_a_class_or_is_given() -> None:
    assert isinstance(WebSocketManager("c").broker, InMemoryBroker)
    given = InMemoryBroker()
    assert WebSocketManager("c", broker=given).broker is given
    assert WebSocketManager("c", broker_class=PlainBroker, patience_seconds=3).broker.patience_seconds == 3  # type: ignore[attr-defined]
    made = WebSocketManager("c", "redis://127.0.0.1:1/0", shards=2).broker
    assert isinstance(made, RedisBroker)
    assert made.shards == 2


async def test_a_class_that_is_no_broker_is_refused() -> None:
    class Incomplete(BrokerInterface):
        def connect(self) -> None: ...  # type: ignore[override]

    with pytest.raises(TypeError, match="needs the six coroutines"):
        WebSocketManager("c", broker_class=Incomplete)


async def test_it_says_when_it_is_not_ready() -> None:
    manager = WebSocketManager("channel")
    assert manager.not_ready_reason == "not started"
    await manager.startup()
    await eventually(lambda: manager.not_ready_reason is None)
    await manager.shutdown()
    assert manager.not_ready_reason == "not started"


# Connections


async def test_a_new_connection_is_accepted_welcomed_and_kept(manager: WebSocketManager) -> None:
    connection, raw = await join(manager, user="alice")
    assert raw.received == [{"type": "welcome", "conn_id": "c1", "worker": "chat-1", "user": "alice"}]
    assert manager.active_connections == list(manager) == [connection]
    assert len(manager) == 1
    assert connection.manager is manager


async def test_a_new_connection_may_be_subscribed_from_the_start(manager: WebSocketManager) -> None:
    _, raw = await join(manager, topic="room/+")
    manager.send(Message(topic="room/1", data={"n": 1}))
    assert raw.received[-1] == {"type": "send", "topic": "room/1", "n": 1}


@pytest.mark.parametrize("topic", ["a/#/b", "\ud800", "x" * 300])
async def test_an_invalid_topic_is_refused_before_the_handshake_ends(manager: WebSocketManager, topic: str) -> None:
    wire = Wire(RawWire())
    with pytest.raises(InvalidSubscription):
        await manager.new_connection(wire.websocket, "c1", topic)
    assert (wire.events, len(manager)) == ([], 0)


async def test_a_connection_is_removed_with_everything_that_was_its_own_and_twice_is_once(
    manager: WebSocketManager,
) -> None:
    connection, _ = await join(manager, user="alice", topic="room/1", expires_at=time.time() + 60)
    manager.remove_connection(connection)
    await manager.remove_connection(connection)
    assert (len(manager), len(manager.index), connection.manager) == (0, 0, None)
    assert not manager._roster._by_id
    assert not manager._roster._places_of


async def test_topics_that_were_changed_by_hand_are_neither_followed_twice_nor_left_behind(
    manager: WebSocketManager,
) -> None:
    connection, _ = await join(manager, topic="room/1")
    connection.topics.clear()
    await manager.receive(connection, {"type": "subscribe", "topic": "room/1"})
    followers = manager.feed.follow("room/1")[0].followers
    connection.topics.add("room/2")
    manager.remove_connection(connection)
    assert len(manager.index) == 0
    assert manager.feed.follow("room/1")[0].followers == followers


async def test_a_connection_leaves_one_line_without_what_was_said(
    manager: WebSocketManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, module.__name__)
    connection, _ = await join(manager, user="alice", topic="room/tea")
    await manager.receive(connection, {"type": "send", "topic": "room/tea", "data": "a secret"})
    await manager.close_connection(connection, CloseCode.DRAIN)
    (line,) = [record for record in caplog.records if record.message == "connection ended"]
    told = {name: getattr(line, name) for name in ("conn_id", "user", "worker", "code", "topics")}
    assert told == {"conn_id": "c1", "user": "alice", "worker": "chat-1", "code": 1012, "topics": 1}
    assert 0 <= line.seconds < 60  # type: ignore[attr-defined]
    assert "a secret" not in str(vars(line))


async def test_it_says_how_much_is_on_its_way_and_how_long_nothing_was_heard(manager: WebSocketManager) -> None:
    assert (manager.unsent_bytes, manager.waiting_bytes) == (0, 0)
    _, raw = await join(manager)
    raw.unsent_bytes = 7
    manager.submit(Message(topic="room/1", data={"n": 1}))
    assert manager.unsent_bytes == 7
    assert manager.waiting_bytes > 0
    await eventually(lambda: manager.waiting_bytes == 0)
    assert 0 <= manager.silent_seconds < 60


async def test_closing_a_connection_keeps_it_no_more(manager: WebSocketManager) -> None:
    wire = Wire()
    connection = await manager.new_connection(wire.websocket, "c1")
    await manager.close_connection(connection, CloseCode.POLICY_VIOLATION)
    assert (wire.close_codes, len(manager)) == ([1008], 0)


async def test_an_id_may_be_changed_and_is_told(manager: WebSocketManager) -> None:
    connection, raw = await join(manager)
    manager.set_conn_id(connection, "c2")
    await manager.set_conn_id(connection, "c3")
    assert raw.received[-1] == {"type": "set_conn_id", "conn_id": "c3"}
    manager.send_by_conn_id({"conn_id": "c1", "n": 1})
    manager.send_by_conn_id({"conn_id": "c3", "n": 3})
    assert raw.received[-1]["n"] == 3
    assert len(raw.received) == 4
    manager.remove_connection(connection)
    manager.set_conn_id(connection, "c4")
    assert not manager._roster._by_id


# Limits


async def refused(manager: WebSocketManager, **options: Any) -> int:
    """The HTTP status that ended the handshake."""
    wire = Wire()
    wire.scope["extensions"] = {"websocket.http.response": {}}
    with pytest.raises(WebSocketDisconnect):
        await manager.new_connection(wire.websocket, "c1", **options)
    status: int = wire.events[0]["status"]
    return status


async def test_connections_of_a_user_are_bounded() -> None:
    manager = WebSocketManager("channel", limits=Limits(connections_per_user=1))
    first, _ = await join(manager, user="alice")
    assert await refused(manager, user="alice") == 429
    second, _ = await join(manager, user="alice2")
    third, _ = await join(manager)
    manager.remove_connection(first)
    fourth, _ = await join(manager, user="alice")
    for connection in (second, third, fourth):
        manager.remove_connection(connection)


async def test_a_client_that_vanishes_during_its_handshake_does_not_count() -> None:
    manager = WebSocketManager("channel", limits=Limits(connections_per_user=1))
    gone = Wire()
    gone.vanish()
    with pytest.raises((OSError, WebSocketDisconnect)):
        await manager.new_connection(gone.websocket, "c1", user="alice")
    assert len(manager) == 0
    connection, _ = await join(manager, user="alice")
    manager.remove_connection(connection)


async def test_connections_of_a_worker_are_bounded() -> None:
    manager = WebSocketManager("channel", limits=Limits(connections=1))
    connection, _ = await join(manager)
    assert await refused(manager) == 503
    manager.remove_connection(connection)


async def test_limits_of_none_are_no_bounds() -> None:
    manager = WebSocketManager("channel", limits=Limits(connections=None, connections_per_user=None))
    made = [(await join(manager, user="alice"))[0] for _ in range(50)]
    for connection in made:
        await manager.remove_connection(connection)


# Sending


async def test_what_is_sent_reaches_the_subscribers_of_this_worker(manager: WebSocketManager) -> None:
    (_, one), (_, other) = await join(manager, topic="a"), await join(manager, topic="b")
    for message in (Message(topic="a", data={"n": 1}), {"type": "send", "topic": "a", "n": 1}):
        await manager.send(message)
    assert [message["n"] for message in one.received[1:]] == [1, 1]
    assert types(other) == ["welcome"]
    manager.send(Message(data={"n": 1}))


async def test_a_broadcast_reaches_all_connections_of_this_worker(manager: WebSocketManager) -> None:
    wires = [(await join(manager, f"c{n}"))[1] for n in range(3)]
    await manager.broadcast({"anything": "goes"})
    manager.broadcast(Message(type="broadcast", data=[1, 2]))
    for raw in wires:
        assert raw.received[1:] == [{"anything": "goes"}, {"type": "broadcast", "data": [1, 2]}]


async def test_connections_are_addressed_by_id_one_or_several(manager: WebSocketManager) -> None:
    wires = {n: (await join(manager, n))[1] for n in ("c1", "c2", "c3")}
    manager.send_by_conn_id(Message(conn_id="c1", data={"n": 1}))
    await manager.send_by_conn_id({"conn_id": ["c1", "c2", "nobody"], "n": 2})
    manager.send_by_conn_id(Message(data={"n": 3}))
    assert [[message["n"] for message in raw.received[1:]] for raw in wires.values()] == [[1, 2], [2], []]


@pytest.mark.parametrize(
    ("message", "reached"),
    [
        ({"type": "broadcast", "n": 1}, "abc"),
        ({"type": "send_by_conn_id", "conn_id": "b"}, "b"),
        ({"type": "send", "topic": "room/1"}, "a"),
        ({"type": "shutdown", "topic": "room/1"}, "a"),
    ],
    ids=str,
)
async def test_the_type_decides_whom_a_message_reaches(
    manager: WebSocketManager, message: dict[str, Any], reached: str
) -> None:
    wires = {n: (await join(manager, n, topic="room/1" if n == "a" else None))[1] for n in "abc"}
    await manager.send_msg(message)
    assert "".join(n for n, raw in wires.items() if len(raw.received) > 1) == reached


async def test_one_broken_connection_does_not_stop_a_broadcast(manager: WebSocketManager) -> None:
    wires = [(await join(manager, f"c{n}"))[1] for n in range(3)]
    wires[1].failure = RuntimeError("broken")
    manager.broadcast({"n": 1})
    assert [len(raw.received) for raw in wires] == [2, 1, 2]
    assert wires[1].ends == [CloseCode.INTERNAL_ERROR]


# Publishing


async def test_what_a_service_submits_reaches_every_worker() -> None:
    broker = InMemoryBroker()
    async with WebSocketManager("channel", broker=broker) as one, WebSocketManager("channel", broker=broker) as other:
        await eventually(lambda: one.not_ready_reason is None and other.not_ready_reason is None)
        (_, near), (_, far) = await join(one, topic="room/1"), await join(other, "c2", topic="room/1")
        one.submit(Message(topic="room/1", data={"n": 1}))
        one.submit(Message(type="broadcast", data={"n": 2}))
        one.submit(Message(type="send_by_conn_id", conn_id="c2", data={"n": 3}))
        await eventually(lambda: len(far.received) == 4)
        await eventually(lambda: len(near.received) == 3)
        assert [message["n"] for message in far.received[1:]] == [1, 2, 3]
        assert "conn_id" not in far.received[3]


@pytest.mark.parametrize(
    "message",
    [Message(), Message(topic=""), Message(type="react"), Message(type="send_by_conn_id", conn_id=[])],
    ids=["send", "empty topic", "own type", "nobody's id"],
)
async def test_what_names_nobody_and_is_no_broadcast_is_not_submitted(
    manager: WebSocketManager, message: Message
) -> None:
    """It went to everybody."""
    with pytest.raises(InvalidMessage, match="needs a topic") as refused:
        manager.submit(message)
    assert refused.value.received is message
    assert manager.waiting_bytes == 0


async def test_what_is_ephemeral_reaches_who_is_there_and_is_acknowledged_without_a_position() -> None:
    broker = FaultyBroker()
    async with WebSocketManager("channel", broker=broker) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        (sender, raw), (_, other) = await join(manager, topic="a"), await join(manager, "c2")
        await manager.receive(sender, {"type": "send", "topic": "a", "ephemeral": True, "ref": 1})
        await eventually(lambda: types(raw)[1:] in (["ack", "send"], ["send", "ack"]))
        assert {"type": "ack", "ref": 1, "id": None} in raw.received
        assert "id" not in next(message for message in raw.received if message["type"] == "send")
        assert (await broker.extent("channel", 0)).added == 0
        manager.submit(Message(type="send_by_conn_id", conn_id="c2", data={"ephemeral": True, "n": 1}))
        await eventually(lambda: types(other) == ["welcome", "send_by_conn_id"])
        assert types(raw).count("send_by_conn_id") == 0


async def test_two_messages_of_a_user_with_the_same_ref_are_two_and_a_repeated_one_is_one() -> None:
    broker = FaultyBroker()
    async with WebSocketManager("channel", broker=broker) as manager:
        connection, raw = await join(manager, user="alice")
        again, raw_again = await join(manager, user="alice")
        stranger, raw_stranger = await join(manager, user="bob")
        message = {"type": "send", "topic": "a", "n": 1, "ref": "r"}
        await manager.receive(connection, message)
        await manager.receive(again, message)
        await manager.receive(stranger, message)
        await manager.receive(connection, {**message, "n": 2})
        await eventually(lambda: types(raw).count("ack") == 2)
        await eventually(lambda: types(raw_again).count("ack") == types(raw_stranger).count("ack") == 1)
        assert raw_again.received[-1]["id"] == raw.received[1]["id"]
        assert len({raw.received[1]["id"], raw.received[2]["id"], raw_stranger.received[1]["id"]}) == 3
        assert (await broker.extent("channel", 0)).added == 3


async def test_whoever_waits_for_an_ack_is_told_when_it_does_not_come() -> None:
    broker = FaultyBroker()
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        connection, raw = await join(manager)
        broker.fail("append", BrokerError("down"))
        await manager.receive(connection, {"type": "send", "topic": "a"})
        await manager.receive(connection, {"type": "send", "topic": "a", "ref": "tried again"})
        await eventually(lambda: len(raw.received) == 2)
        assert raw.received[1] == {"type": "error", "code": "unavailable", "detail": "down", "ref": None}
        broker.heal()
        await manager.receive(connection, {"type": "send", "topic": "a"})
        await eventually(lambda: raw.received[-1]["type"] == "ack")
        assert types(raw) == ["welcome", "error", "ack"]


async def test_without_a_log_nobody_is_present() -> None:
    assert WebSocketManager("channel", broker=PlainBroker()).present == 0


async def test_without_a_log_an_ack_has_no_position() -> None:
    async with WebSocketManager("channel", broker_class=PlainBroker) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        connection, raw = await join(manager, topic="room/1")
        await manager.receive(connection, {"type": "send", "topic": "room/1", "n": 1, "ref": 5})
        await eventually(lambda: len(raw.received) == 3)
        assert {"type": "ack", "ref": 5, "id": None} in raw.received
        await manager.receive(connection, {"type": "subscribe", "topic": "room/2"})
        assert raw.received[-1] == {"type": "subscribed", "topic": "room/2", "position": None, "epoch": None}
        await manager.receive(connection, {"type": "presence", "topic": "room/2"})
        assert raw.received[-1]["code"] == "not_allowed"
        manager._tell_of_hole(None)  # type: ignore[arg-type]


# Losing entries


async def test_everybody_who_hears_a_shard_is_told_that_it_lost_entries() -> None:
    broker = FaultyBroker(shards=4)
    async with WebSocketManager("channel", broker=broker, probe_seconds=0.02) as manager:
        topic = next(f"t{n}" for n in range(99) if broker.shard_of(f"t{n}") == 2)
        (_, hears), (_, hears_all), (_, elsewhere) = (
            await join(manager, topic=topic),
            await join(manager, topic="#"),
            await join(manager, topic=next(f"t{n}" for n in range(99) if broker.shard_of(f"t{n}") == 3)),
        )
        await eventually(lambda: manager.not_ready_reason is None)
        reader = manager.feed.follow(topic)[0]
        manager._tell_of_hole(reader)
        told = {"type": "subscribed", "position": reader.position, "epoch": reader.epoch, "recovered": False}
        assert hears.received[1:] == [{**told, "topic": topic}]
        # A pattern over several shards has no position to go on from.
        assert hears_all.received[1:] == [{**told, "topic": "#", "position": None, "epoch": None}]
        assert types(elsewhere) == ["welcome"]


# Leaving


async def test_shutting_down_closes_every_connection_with_1012(manager: WebSocketManager) -> None:
    """Closing while iterating over the connections once skipped every second one."""
    wires = [Wire() for _ in range(5)]
    for number, wire in enumerate(wires):
        await manager.new_connection(wire.websocket, f"c{number}")
    await manager.shutdown()
    assert [wire.close_codes for wire in wires] == [[CloseCode.DRAIN]] * 5
    assert len(manager) == 0


async def test_draining_sends_everybody_elsewhere_spread_over_the_time() -> None:
    async with WebSocketManager("channel") as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        wires = [(await join(manager, f"c{n}"))[1] for n in range(5)]
        loop = asyncio.get_running_loop()
        start = loop.time()
        draining = asyncio.create_task(manager.drain(0.2))
        await eventually(lambda: manager.draining)
        assert manager.not_ready_reason == "draining"
        assert await refused(manager) == 503
        assert [raw.received[-1] for raw in wires] == [{"type": "reconnect", "within_seconds": 0.2}] * 5
        await draining
        # Late on a busy machine, but nobody before his turn; less what a clock's resolution lets a timer be early.
        ended = sorted(raw.ended_at for raw in wires)
        assert all(at - start > 0.2 * turn / 5 - 0.01 for turn, at in enumerate(ended, 1))
        assert [raw.ends for raw in wires] == [[CloseCode.DRAIN]] * 5


async def test_draining_an_empty_worker_takes_no_time() -> None:
    manager = WebSocketManager("channel")
    async with asyncio.timeout(10):
        await manager.drain(60)


# Presence


class Showing(Policy):
    """Who is in a topic is no secret."""

    def shows_presence(self, topic: str) -> bool:
        return True


async def test_presence_follows_subscriptions() -> None:
    async with WebSocketManager("channel", policy=Showing()) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        connection, raw = await join(manager, user="alice")
        await manager.receive(connection, {"type": "subscribe", "topic": "room/1"})
        assert manager.present == 1
        await eventually(lambda: "joined" in types(raw))
        await manager.receive(connection, {"type": "presence", "topic": "room/1"})
        await eventually(lambda: types(raw)[-1] == "presence")
        assert raw.received[-1]["total"] == 1
        (reader,) = manager.feed.follow("room/1")
        manager._tell_of_hole(reader)


def test_what_is_done_may_be_awaited_or_not() -> None:
    assert list(module.DONE.__await__()) == []
