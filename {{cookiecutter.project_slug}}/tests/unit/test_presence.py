"""This worker's part of the presence: told in time, kept through a reconnect, and never said to have left too early."""

import time
from collections.abc import AsyncIterator, Sequence

import pytest

from distributed_websocket import Connection, NotAllowed, Policy, presence
from distributed_websocket.brokers.interface import Place
from distributed_websocket.brokers.memory import InMemoryBroker
from distributed_websocket.exceptions import BrokerError
from distributed_websocket.presence import Presence
from tests.deadline import eventually
from tests.wire import RawWire, raw_connection

ROOM = Place("room/1", "alice")


class Showing(Policy):
    """Who is in a room is no secret; who is anywhere else is."""

    def shows_presence(self, topic: str) -> bool:
        return topic.startswith("room/")


class Recording(InMemoryBroker):
    """Remembers what it was told, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, Place]] = []
        self.beats = 0
        self.failure: Exception | None = None

    async def presence_change(
        self,
        channel: str,
        shard: int,
        worker: str,
        entered: Sequence[Place],
        left: Sequence[Place],
        *,
        lives_seconds: float,
    ) -> None:
        if self.failure is not None:
            raise self.failure
        self.told += [("entered", place) for place in entered] + [("left", place) for place in left]
        await super().presence_change(channel, shard, worker, entered, left, lives_seconds=lives_seconds)

    async def presence_beat(self, channel: str, shard: int, worker: str, *, lives_seconds: float) -> None:
        self.beats += 1
        await super().presence_beat(channel, shard, worker, lives_seconds=lives_seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)


@pytest.fixture
def broker() -> Recording:
    return Recording()


@pytest.fixture
async def here(broker: Recording) -> AsyncIterator[Presence]:
    made = Presence(broker, "channel", "chat-1#a", Showing())
    made.start()
    yield made
    await made.stop()


def client(user: str | None = "alice") -> Connection:
    connection = raw_connection(RawWire())
    connection.user = user
    return connection


async def test_the_first_subscription_enters_and_the_last_one_leaves_after_a_while(
    here: Presence, broker: Recording
) -> None:
    one, other = client(), client()
    here.enter(one, "room/1")
    here.enter(other, "room/1")
    await eventually(lambda: broker.told == [("entered", ROOM)])
    left = time.monotonic()
    here.leave(one, "room/1")
    here.leave(other, "room/1")
    await eventually(lambda: broker.told == [("entered", ROOM), ("left", ROOM)])
    assert time.monotonic() - left >= presence.LINGER_SECONDS


async def test_who_only_reconnects_never_left(
    here: Presence, broker: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LINGER_SECONDS", 60)
    for _ in range(3):
        connection = client()
        here.enter(connection, "room/1")
        await beats_of(broker, 2)
        here.leave(connection, "room/1")
        await beats_of(broker, 2)
    monkeypatch.setattr(presence, "LINGER_SECONDS", 0.05)
    here.enter(connection, "room/1")
    here.leave(connection, "room/1")
    here.enter(client(), "room/1")
    await beats_of(broker, 3)  # longer than it lingers
    assert broker.told == [("entered", ROOM)]


async def beats_of(broker: Recording, count: int) -> None:
    """Return when so many more beats came: what changed before the last of them was told."""
    wanted = broker.beats + count
    await eventually(lambda: broker.beats >= wanted)


async def test_who_comes_and_goes_before_the_broker_was_told_is_not_mentioned_twice(
    here: Presence, broker: Recording
) -> None:
    connection = client()
    here.enter(connection, "room/1")
    here.leave(connection, "room/1")
    await eventually(lambda: broker.told == [("entered", ROOM), ("left", ROOM)])


async def test_who_came_and_went_while_the_broker_was_away_is_not_mentioned(here: Presence, broker: Recording) -> None:
    broker.failure = BrokerError("down")
    connection = client()
    here.enter(connection, "room/1")
    assert len(here) == 1
    here.leave(connection, "room/1")
    assert len(here) == 0
    await eventually(lambda: not here._lingering)
    broker.failure = None
    here.enter(client("bob"), "room/1")
    await eventually(lambda: broker.told)
    assert broker.told == [("entered", Place("room/1", "bob"))]


@pytest.mark.parametrize(
    ("user", "pattern"),
    [(None, "room/1"), ("", "room/1"), ("a\nb", "room/1"), ("alice", "room/#"), ("alice", "secret")],
)
async def test_some_are_nowhere(here: Presence, broker: Recording, user: str | None, pattern: str) -> None:
    here.enter(client(user), pattern)
    here.leave(client(user), pattern)
    here.enter(client(), "room/1")
    await eventually(lambda: broker.told == [("entered", ROOM)])


async def test_leaving_without_having_entered_is_nothing(here: Presence, broker: Recording) -> None:
    here.leave(client(), "room/1")
    await eventually(lambda: broker.beats >= 3)
    assert broker.told == []


async def test_members_are_those_of_all_workers(here: Presence, broker: Recording) -> None:
    await broker.presence_change("channel", 0, "chat-2#b", [Place("room/1", "bob")], (), lives_seconds=60)
    here.enter(client(), "room/1")
    await eventually(lambda: ("entered", ROOM) in broker.told)
    found, total = await here.members("room/1")
    assert ({member["user"] for member in found}, total) == ({"alice", "bob"}, 2)
    with pytest.raises(NotAllowed):
        await here.members("secret")


@pytest.mark.parametrize("failure", [BrokerError("down"), RuntimeError("strange")], ids=["foreseen", "unforeseen"])
async def test_what_the_broker_did_not_take_is_tried_again(
    here: Presence, broker: Recording, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    broker.failure = failure
    here.enter(client(), "room/1")
    await eventually(lambda: "trying again" in caplog.text)
    broker.failure = None
    await eventually(lambda: broker.told == [("entered", ROOM)])


async def test_a_broker_that_lost_what_it_knew_is_told_again(here: Presence, broker: Recording) -> None:
    here.enter(client(), "room/1")
    await eventually(lambda: len(broker.told) == 1)
    here.renew()
    await eventually(lambda: broker.told == [("entered", ROOM)] * 2)


async def test_a_worker_that_stops_falls_silent(here: Presence, broker: Recording) -> None:
    connection = client()
    here.enter(connection, "room/1")
    await eventually(lambda: len(broker.told) == 1)
    here.leave(connection, "room/1")
    await here.stop()
    assert broker.told == [("entered", ROOM)]
    assert (await broker.presence_members("channel", 0, "room/1", limit=9))[1] == 1


async def test_one_that_was_never_started_may_be_stopped(broker: Recording) -> None:
    await Presence(broker, "channel", "chat-1#a", Showing()).stop()
