"""Subscribing and unsubscribing by a message, with and without a manager."""

from collections.abc import Callable

import pytest

from distributed_websocket import (
    Connection,
    InvalidSubscription,
    InvalidSubscriptionMessage,
    Limits,
    Message,
    WebSocketManager,
    handle_subscription_message,
    subscribe,
    unsubscribe,
)
from distributed_websocket.subscriptions import is_subscription_message
from tests.deadline import eventually
from tests.wire import RawWire, Wire, raw_connection

ON = Message(type="subscribe", topic="room/+")
OFF = Message(type="unsubscribe", topic="room/+")


@pytest.fixture
def connection() -> Connection:
    return raw_connection(RawWire())


def test_subscribing_and_unsubscribing_change_the_topics(connection: Connection) -> None:
    subscribe(connection, ON)
    subscribe(connection, ON)
    assert connection.topics == {"room/+"}
    unsubscribe(connection, OFF)
    unsubscribe(connection, OFF)
    assert connection.topics == set()


def test_the_type_of_the_message_decides(connection: Connection) -> None:
    handle_subscription_message(connection, ON)
    assert connection.topics == {"room/+"}
    handle_subscription_message(connection, OFF)
    assert connection.topics == set()
    assert is_subscription_message(ON)
    assert is_subscription_message(OFF)
    assert not is_subscription_message(Message(topic="room/1"))


@pytest.mark.parametrize("change", [subscribe, unsubscribe, handle_subscription_message])
def test_another_type_is_refused(connection: Connection, change: Callable[[Connection, Message], None]) -> None:
    with pytest.raises(InvalidSubscriptionMessage, match="the type 'send' does not") as refused:
        change(connection, Message(type="send", topic="room/1"))
    assert refused.value.connection is connection
    assert connection.topics == set()


@pytest.mark.parametrize("topic", [None, "", "a/#/b", "a+", "x" * 300])
@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
def test_an_invalid_pattern_is_refused(connection: Connection, kind: str, topic: str | None) -> None:
    with pytest.raises(InvalidSubscription):
        handle_subscription_message(connection, Message(type=kind, topic=topic))
    assert connection.topics == set()


@pytest.mark.parametrize("topic_bytes", [5, 400])
def test_a_pattern_may_be_as_long_as_the_connections_limit_says(topic_bytes: int) -> None:
    connection = raw_connection(RawWire(), limits=Limits(topic_bytes=topic_bytes))
    for kind, topics in (("subscribe", {"x" * topic_bytes}), ("unsubscribe", set[str]())):
        handle_subscription_message(connection, Message(type=kind, topic="x" * topic_bytes))
        assert connection.topics == topics
        with pytest.raises(InvalidSubscription, match=f"at most {topic_bytes} bytes"):
            handle_subscription_message(connection, Message(type=kind, topic="x" * (topic_bytes + 1)))


async def test_a_manager_delivers_from_the_moment_on_and_no_longer() -> None:
    async with WebSocketManager("channel") as manager:
        raw = RawWire()
        connection = await manager.new_connection(Wire(raw).websocket, "c1")
        subscribe(connection, ON)
        await eventually(lambda: manager.not_ready_reason is None)
        manager.send({"topic": "room/1", "n": 1})
        unsubscribe(connection, OFF)
        manager.send({"topic": "room/1", "n": 2})
        assert [message["n"] for message in raw.received[1:]] == [1]
        assert len(manager.index) == 0
