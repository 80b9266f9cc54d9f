"""Who may do what in the chat."""

import pytest

from distributed_websocket import Connection, Policy
from tests.service import load
from tests.wire import RawWire, Wire


@pytest.fixture
def policy() -> Policy:
    made: Policy = load("chat.policy").ChatPolicy()
    return made


@pytest.fixture
def connection() -> Connection:
    return Connection(Wire(RawWire()).websocket, "c1", user="alice")


@pytest.mark.parametrize("topic", ["room/1", "room/lobby", "room/load-3f2a-12", "room/" + "x" * 40])
def test_everybody_may_go_into_a_room_and_is_seen_there(policy: Policy, connection: Connection, topic: str) -> None:
    assert policy.may_subscribe(connection, topic)
    assert policy.may_publish(connection, topic)
    assert policy.shows_presence(topic)


@pytest.mark.parametrize(
    "topic",
    ["room", "room/", "room/+", "room/#", "#", "+/+", "room/a/b", "room/A", "room/-a", "room/" + "x" * 41, "room/a\n",
     "room/ä", "room/a b", "rooms/1", "$probe", "typing/lobby", ""],
)  # fmt: skip
def test_what_is_not_one_room_is_nobodys(policy: Policy, connection: Connection, topic: str) -> None:
    assert not policy.may_subscribe(connection, topic)
    assert not policy.may_publish(connection, topic)
    assert not policy.shows_presence(topic)


def test_announcements_are_for_everybody_without_presence(policy: Policy, connection: Connection) -> None:
    assert policy.may_subscribe(connection, "rooms")
    assert policy.may_publish(connection, "rooms")
    assert not policy.shows_presence("rooms")
    assert not policy.may_broadcast(connection)
