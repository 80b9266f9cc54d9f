"""This worker's part of the presence: told in time, kept through a reconnect, and never said to have left too early."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson
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
    """Remembers what it was told, and fails when it is told to. `same_as`: a second way to what that one holds."""

    def __init__(self, same_as: InMemoryBroker | None = None, *, shards: int = 1) -> None:
        super().__init__(shards=shards, shard_levels=2)
        if same_as is not None:
            self._logs, self._places = same_as._logs, same_as._places
        self.told: list[tuple[str, Place]] = []
        self.beats = 0
        self.beats_of_shard: Counter[int] = Counter()
        self.failure: Exception | None = None
        """Raised for every change."""
        self.cut_off = False
        self.fails_after_noting = False
        self.failing_shards: set[int] = set()
        self.hanging_shards: set[int] = set()

    async def _fault(self, shard: int) -> None:
        if shard in self.hanging_shards:
            await asyncio.Event().wait()
        if self.cut_off or shard in self.failing_shards:
            raise BrokerError("no way")

    def life_ended(self, worker: str = "chat-1#a") -> bool:
        return time.monotonic_ns() > self._places["channel", 0].lives[worker].until

    def events(self) -> list[tuple[str, str]]:
        """What the first shard's log tells of who came and went."""
        told = [orjson.loads(entry.body) for entry in self._log("channel", 0).entries]
        return [(fields["type"], fields["user"]) for fields in told]

    async def presence_change(
        self,
        channel: str,
        shard: int,
        worker: str,
        entered: Sequence[Place],
        left: Sequence[Place],
        *,
        lives_seconds: float,
    ) -> int:
        await self._fault(shard)
        if self.failure is not None:
            raise self.failure
        self.told += [("entered", place) for place in entered] + [("left", place) for place in left]
        since = await super().presence_change(channel, shard, worker, entered, left, lives_seconds=lives_seconds)
        if self.fails_after_noting:
            raise BrokerError("no answer")
        return since

    async def presence_beat(self, channel: str, shard: int, worker: str, *, lives_seconds: float) -> int:
        await self._fault(shard)
        self.beats += 1
        self.beats_of_shard[shard] += 1
        return await super().presence_beat(channel, shard, worker, lives_seconds=lives_seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(presence, "BEAT_SECONDS", 0.05)


@pytest.fixture
def broker() -> Recording:
    return Recording()


@asynccontextmanager
async def present(broker: Recording, worker: str) -> AsyncIterator[Presence]:
    made = Presence(broker, "channel", worker, Showing())
    made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def here(broker: Recording) -> AsyncIterator[Presence]:
    async with present(broker, "chat-1#a") as made:
        yield made


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
    await eventually(broker.events)
    assert broker.events() == [("joined", "bob")]


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


async def test_a_broker_that_lost_what_it_knew_is_told_of_those_who_may_come_back(
    here: Presence, broker: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They came back within the while, in which nothing changes: so they were never told again."""
    monkeypatch.setattr(presence, "LINGER_SECONDS", 60)
    connection = client()
    here.enter(connection, "room/1")
    await eventually(lambda: len(broker.told) == 1)
    here.leave(connection, "room/1")
    here.renew()
    await eventually(lambda: broker.told == [("entered", ROOM)] * 2)


async def test_who_left_is_told_even_if_the_entry_seemed_to_fail(here: Presence, broker: Recording) -> None:
    """The broker had noted it, and the user stayed in the room for as long as the worker lived."""
    broker.fails_after_noting = True
    connection = client()
    here.enter(connection, "room/1")
    await eventually(lambda: broker.events() == [("joined", "alice")])
    broker.cut_off = True
    here.leave(connection, "room/1")
    await eventually(lambda: not here._lingering)
    broker.cut_off = broker.fails_after_noting = False
    await eventually(lambda: broker.events() == [("joined", "alice"), ("left", "alice")])


# Away for longer than a worker is believed to live


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LIVES_SECONDS", 0.2)


@pytest.mark.usefixtures("short_lives")
async def test_users_of_a_worker_that_was_cut_off_are_there_again_when_it_is_back(
    here: Presence, broker: Recording
) -> None:
    here.enter(client(), "room/1")
    await eventually(lambda: broker.events() == [("joined", "alice")])
    async with present(Recording(broker), "chat-2#b"):
        broker.cut_off = True
        await eventually(lambda: broker.events()[1:] == [("left", "alice")])
        broker.cut_off = False
        await eventually(lambda: broker.events()[2:] == [("joined", "alice")])


@pytest.mark.usefixtures("short_lives")
async def test_after_an_outage_for_all_nobody_left(here: Presence, broker: Recording) -> None:
    brokers = [broker, Recording(broker), Recording(broker)]
    async with present(brokers[1], "chat-2#b") as second, present(brokers[2], "chat-3#c") as third:
        for number, of_worker in enumerate((here, second, third)):
            of_worker.enter(client(f"user{number}"), "room/1")
        await eventually(lambda: len(broker.events()) == 3)
        for one in brokers:
            one.cut_off = True
        await eventually(lambda: all(broker.life_ended(worker) for worker in ("chat-1#a", "chat-2#b", "chat-3#c")))
        for one in brokers:
            one.cut_off = False
            one.told.clear()
        for one in brokers:
            await beats_of(one, 8)  # longer than a worker lives: dead ones would be made to leave
        assert [kind for kind, _ in broker.events()] == ["joined"] * 3
        assert [len(one.told) for one in brokers] == [1, 1, 1], "each tells its own again"


@pytest.mark.usefixtures("short_lives")
async def test_a_change_too_finds_that_the_worker_was_away(broker: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "BEAT_SECONDS", 60)
    async with present(broker, "chat-1#a") as here:
        here.enter(client(), "room/1")
        await eventually(lambda: broker.told == [("entered", ROOM)])
        await eventually(broker.life_ended)
        here.enter(client("bob"), "room/1")
        await eventually(lambda: broker.told[1:] == [("entered", Place("room/1", "bob")), ("entered", ROOM)])


@pytest.mark.usefixtures("short_lives")
async def test_who_left_while_the_worker_was_away_is_told_though_nobody_took_it_away(
    here: Presence, broker: Recording
) -> None:
    connection = client()
    here.enter(connection, "room/1")
    await eventually(lambda: broker.events() == [("joined", "alice")])
    broker.cut_off = True
    here.leave(connection, "room/1")
    await eventually(lambda: not here._lingering and broker.life_ended())
    broker.cut_off = False
    await eventually(lambda: broker.events() == [("joined", "alice"), ("left", "alice")])


# Shards


@pytest.fixture
def spread() -> Recording:
    return Recording(shards=3)


def topic_of(broker: Recording, shard: int) -> str:
    return next(topic for n in range(100) if broker.shard_of(topic := f"room/{n}") == shard)


async def test_a_shard_that_fails_keeps_no_other_one_from_its_heartbeat(
    spread: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    """One node of a Cluster that was down ended the heartbeats of all shards behind it, and their users left."""
    spread.failing_shards = {0}
    places = [Place(topic_of(spread, shard), "alice") for shard in range(3)]
    async with present(spread, "chat-1#a") as here:
        for place in places:
            here.enter(client(), place.topic)
        await eventually(lambda: spread.beats_of_shard[1] > 3 and spread.beats_of_shard[2] > 3)
        assert set(spread.told) == {("entered", place) for place in places[1:]}
        assert "shard 0: presence: no way; trying again in 0.05 s" in caplog.text
        spread.failing_shards = set()
        await eventually(lambda: ("entered", places[0]) in spread.told)
    assert len(spread.told) == 3


async def test_a_shard_that_does_not_answer_keeps_no_other_one_waiting(spread: Recording) -> None:
    spread.hanging_shards = {0}
    async with present(spread, "chat-1#a") as here:
        here.enter(client(), topic_of(spread, 2))
        await eventually(lambda: spread.beats_of_shard == {1: 1, 2: 1} and len(spread.told) == 1)


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
