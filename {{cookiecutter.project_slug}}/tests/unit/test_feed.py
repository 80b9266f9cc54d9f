"""The manager's side of the broker: which shards are read, and what happens where there is no log."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from distributed_websocket import Message, feed
from distributed_websocket.brokers.interface import PROBE_TOPIC, START, Entry, Record
from distributed_websocket.exceptions import BrokerError, NotAllowed, Overloaded
from distributed_websocket.feed import LogFeed, PlainFeed
from distributed_websocket.positions import parse_position
from distributed_websocket.publishing import Pending
from distributed_websocket.reading import ShardReader
from distributed_websocket.recovery import Tail, concerns
from tests.deadline import eventually
from tests.faulty_broker import FaultyBroker
from tests.plain_brokers import PlainBroker


class Manager:
    """What a feed calls back."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.settled: list[Pending] = []
        self.failure: Exception | None = None

    def batch(self, entries: Sequence[Entry]) -> None:
        if self.failure is not None:
            raise self.failure
        self.entries += entries

    def lost(self, reader: ShardReader) -> None: ...

    def settle(self, batch: Sequence[Pending]) -> None:
        self.settled += [one for one in batch if one.record.topic != PROBE_TOPIC]


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once() -> Iterator[float]:
        while True:
            yield 0.001

    monkeypatch.setattr(feed, "delays", at_once)


def pending(number: int, topic: str = "room/1", conn_ids: tuple[str, ...] = ()) -> Pending:
    return Pending(Record(topic, b'{"type":"send","topic":"%b","n":%d}' % (topic.encode(), number), conn_ids))


# Over a log


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker(shards=4)


@pytest.fixture
async def log_feed(broker: FaultyBroker, manager: Manager) -> AsyncIterator[LogFeed]:
    made = LogFeed(
        broker, "channel", on_batch=manager.batch, on_lost=manager.lost, settle=manager.settle, answer_seconds=2.0
    )
    assert made.not_ready_reason == "not started"
    await made.start()
    yield made
    await made.stop()


def shards(log_feed: LogFeed) -> set[int]:
    return set(log_feed._readers)


def topic_of(broker: FaultyBroker, shard: int) -> str:
    return next(f"t{number}" for number in range(99) if broker.shard_of(f"t{number}") == shard)


async def test_a_worker_reads_the_shards_that_its_subscribers_need_and_always_that_of_control(
    log_feed: LogFeed, broker: FaultyBroker
) -> None:
    assert shards(log_feed) == {0}
    topic = topic_of(broker, 2)
    (reader,) = log_feed.follow(topic)
    assert log_feed.follow(f"{topic}/#") == [reader]
    assert shards(log_feed) == {0, 2}
    assert len(log_feed.follow("#")) == 4
    log_feed.unfollow("#")
    log_feed.unfollow(topic)
    assert shards(log_feed) == {0, 2}
    log_feed.unfollow(f"{topic}/#")
    assert shards(log_feed) == {0}


async def test_a_reader_that_nobody_needs_ends_and_a_new_one_starts_where_the_log_is(
    log_feed: LogFeed, broker: FaultyBroker, manager: Manager
) -> None:
    topic = topic_of(broker, 2)
    (reader,) = log_feed.follow(topic)
    await reader.opened()
    log_feed.unfollow(topic)
    log_feed.submit(pending(1, topic))
    await eventually(lambda: manager.settled)
    (again,) = log_feed.follow(topic)
    assert again is not reader
    await again.opened()
    assert again.position == manager.settled[0].position
    log_feed.submit(pending(2, topic))
    await eventually(lambda: manager.entries)
    assert [entry.body for entry in manager.entries] == [pending(2, topic).record.body]
    await eventually(lambda: not log_feed._stopping)


async def test_following_comes_and_goes_in_one_tick_without_losing_what_is_new(
    log_feed: LogFeed, broker: FaultyBroker, manager: Manager
) -> None:
    topic = topic_of(broker, 3)
    for _ in range(20):
        log_feed.follow(topic)
        log_feed.unfollow(topic)
    (reader,) = log_feed.follow(topic)
    await reader.opened()
    log_feed.submit(pending(1, topic))
    await eventually(lambda: len(manager.entries) == 1)


async def test_it_is_ready_when_every_shard_that_it_reads_is_heard(log_feed: LogFeed, broker: FaultyBroker) -> None:
    await eventually(lambda: log_feed.not_ready_reason is None)
    broker.fail("extent", BrokerError("down"))
    log_feed.follow(topic_of(broker, 1))
    await eventually(lambda: log_feed.not_ready_reason == "shard 1: down")
    broker.heal()
    await eventually(lambda: log_feed.not_ready_reason is None)


async def test_unfollowing_after_the_end_is_no_error(log_feed: LogFeed, broker: FaultyBroker) -> None:
    """A client that subscribed while the worker was shut down ended in a KeyError."""
    log_feed.follow("#")
    await log_feed.stop()
    log_feed.unfollow("#")


async def test_stopping_publishes_what_was_accepted_and_leaves_no_task(
    log_feed: LogFeed, broker: FaultyBroker, manager: Manager
) -> None:
    log_feed.submit(pending(1))
    log_feed.follow("#")
    log_feed.unfollow("#")
    await log_feed.stop()
    assert [one.error for one in manager.settled] == [None]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_it_says_what_waits_and_how_long_the_most_silent_shard_has_been_silent(
    log_feed: LogFeed, broker: FaultyBroker, manager: Manager
) -> None:
    await eventually(lambda: log_feed.not_ready_reason is None)
    broker.hanging.add("append")
    log_feed.submit(pending(1))
    assert log_feed.waiting_bytes == len(pending(1).record.body)
    broker.heal()
    await eventually(lambda: log_feed.waiting_bytes == 0)
    (reader,) = log_feed.follow(topic_of(broker, 1))
    reader.heard_at -= 1_000
    assert 1_000 <= log_feed.silent_seconds < 1_100
    await log_feed.stop()
    assert log_feed.silent_seconds == 0.0


async def history(log_feed: LogFeed, topic: str, before: str = "", limit: int = 3) -> tuple[list[int], bool]:
    found, more = await log_feed.history(topic, before, limit)
    return [int(entry.body.split(b":")[-1][:-1]) for entry in found], more


async def test_history_finds_a_topic_among_others_in_pages(
    log_feed: LogFeed, broker: FaultyBroker, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HISTORY_PAGE", 3)
    monkeypatch.setattr(feed, "HISTORY_PAGES", 4)
    for number in range(4):
        log_feed.submit(pending(number, "room/1"))
        log_feed.submit(pending(number, "room/2"))
    await eventually(lambda: len(manager.settled) == 8)
    assert await history(log_feed, "room/1") == ([1, 2, 3], True)
    assert await history(log_feed, "room/1", limit=4) == ([0, 1, 2, 3], False)
    assert await history(log_feed, "room/1", before=manager.settled[2].position) == ([0], False)
    assert await history(log_feed, "room/3") == ([], False)
    monkeypatch.setattr(feed, "HISTORY_PAGES", 1)
    assert await history(log_feed, "room/1") == ([3], True)


async def test_history_does_not_show_what_was_for_named_connections(log_feed: LogFeed, manager: Manager) -> None:
    log_feed.submit(pending(1, "room/1", ("c1",)))
    log_feed.submit(pending(2, "room/1"))
    await eventually(lambda: len(manager.settled) == 2)
    assert await history(log_feed, "room/1") == ([2], False)


@pytest.mark.parametrize("page", [4, 1_000])
async def test_history_is_the_same_whatever_of_it_is_in_memory(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(feed, "HISTORY_PAGE", page)
    monkeypatch.setattr(feed, "HISTORY_PAGES", 1_000)
    broker = FaultyBroker(retention_messages=60)
    made = LogFeed(broker, "channel", on_batch=manager.batch, on_lost=manager.lost, settle=manager.settle)
    record = [pending(0, topic).record for topic in ("loud", "loud", "loud", "quiet")]
    record.append(pending(0, "quiet", ("c1",)).record)

    async def grow(number: int) -> str:
        return (await broker.append("channel", 0, random.choices(record, k=number)))[-1]

    async def assert_the_same() -> None:
        log = await broker.range("channel", 0, START, "9999999999999-0", limit=1_000)
        for topic in ("loud", "quiet", "silent"):
            for number, before in [*enumerate(entry.position for entry in log), (len(log), "")]:
                wanted = [entry for entry in log[:number] if concerns(entry, topic)]
                for limit in (1, 5, 50):
                    assert await made.history(topic, before, limit) == (wanted[-limit:], len(wanted) > limit)

    await grow(20)
    await made.start()
    (reader,) = made.follow("loud")
    await reader.opened()
    await assert_the_same()
    reader.tail = Tail(reader.position, max_entries=30)
    await reader.reached(await grow(9))
    await assert_the_same()
    await reader.reached(await grow(40))
    assert len(reader.tail) == 30
    await assert_the_same()
    reader.tail = Tail(reader.position)
    for _ in range(4):
        await reader.reached(await grow(30))
    assert parse_position(reader.tail.oldest) < parse_position((await reader.extent()).first), "memory has more"
    await assert_the_same()
    broker.deaf = True
    for _ in range(3):
        await grow(3)
        await assert_the_same()
    log = broker._log("channel", 0)
    kept = [*log.entries]
    log.entries.clear()
    await assert_the_same()
    log.entries.extend(kept)
    for _ in range(15):  # as a replica that takes over without the newest
        log.entries.pop()
    log.epoch = "another"
    await assert_the_same()
    broker.flush()
    await assert_the_same()
    await grow(7)
    await assert_the_same()
    await made.stop()


async def test_what_is_in_memory_of_a_quiet_topic_spares_the_pages_of_the_log(
    log_feed: LogFeed, broker: FaultyBroker, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HISTORY_PAGE", 3)
    pages = 0
    range_back = broker.range_back

    async def counted(*arguments: Any, **options: Any) -> list[Entry]:
        nonlocal pages
        pages += 1
        return await range_back(*arguments, **options)

    monkeypatch.setattr(broker, "range_back", counted)
    (reader,) = log_feed.follow("room/1")
    await reader.opened()
    for number in range(30):
        log_feed.submit(pending(number, "room/2" if number else "room/1"))
    await eventually(lambda: len(manager.entries) == 30)
    assert broker.shard_of("room/1") == broker.shard_of("room/2")
    assert await history(log_feed, "room/1") == ([0], False)
    assert pages == 1
    assert await history(log_feed, "room/2") == ([27, 28, 29], True)
    assert pages == 1


# Over the six coroutines


@pytest.fixture
async def plain_broker() -> PlainBroker:
    return PlainBroker()


@pytest.fixture
async def plain_feed(plain_broker: PlainBroker, manager: Manager) -> AsyncIterator[PlainFeed]:
    made = PlainFeed(plain_broker, "channel", on_batch=manager.batch, settle=manager.settle)
    assert made.not_ready_reason == "not started"
    await made.start()
    await eventually(lambda: made.not_ready_reason is None)
    yield made
    await made.stop()
    assert made.not_ready_reason == "stopped"
    assert not plain_broker.connected


async def test_what_is_published_is_heard_without_positions(plain_feed: PlainFeed, manager: Manager) -> None:
    first = pending(1)
    plain_feed.submit(first)
    assert first.since > 0
    plain_feed.submit(Pending(Record("", b'{"type":"send_by_conn_id","n":2}', ("c1", "c2"))))
    await eventually(lambda: len(manager.entries) == 2)
    assert [(e.position, e.topic, e.conn_ids) for e in manager.entries] == [("", "room/1", ()), ("", "", ("c1", "c2"))]
    assert manager.entries[1].payload == b'{"n":2,"type":"send_by_conn_id"}'
    assert [one.error for one in manager.settled] == [None, None]
    assert plain_feed.follow("room/1") == ()
    plain_feed.unfollow("room/1")


async def test_a_broker_that_has_nothing_to_say_is_asked_again_and_again(
    plain_feed: PlainFeed, plain_broker: PlainBroker
) -> None:
    asked = plain_broker.asked
    await eventually(lambda: plain_broker.asked >= asked + 3)


async def test_nothing_is_stored(plain_feed: PlainFeed) -> None:
    with pytest.raises(NotAllowed, match="stores no messages"):
        await plain_feed.history("room/1", "", 10)


async def test_what_could_not_be_published_is_said_and_the_next_is_tried(
    plain_feed: PlainFeed, plain_broker: PlainBroker, manager: Manager
) -> None:
    plain_broker.failing.add("publish")
    plain_feed.submit(pending(1))
    await eventually(lambda: manager.settled)
    assert isinstance(manager.settled[0].error, BrokerError)
    plain_broker.failing.clear()
    plain_feed.submit(pending(2))
    await eventually(lambda: len(manager.entries) == 1)


@pytest.mark.parametrize("fault", ["get_message", "on_batch"])
async def test_the_listener_survives_every_failure_and_says_that_it_does_not_hear(
    plain_feed: PlainFeed, plain_broker: PlainBroker, manager: Manager, fault: str
) -> None:
    plain_broker.failing |= {"connect", fault}
    if fault == "on_batch":
        manager.failure = ConnectionError("on_batch failed")
        plain_feed.submit(pending(1))
    await eventually(lambda: "failed" in str(plain_feed.not_ready_reason))
    manager.failure = None
    plain_broker.failing.clear()
    await eventually(lambda: plain_feed.not_ready_reason is None)
    plain_feed.submit(pending(2))
    await eventually(lambda: manager.entries)


async def test_a_connection_that_cannot_be_closed_does_not_keep_it_from_a_new_one(
    plain_feed: PlainFeed, plain_broker: PlainBroker, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        failed.append(True)
        raise ConnectionError("cannot say goodbye")

    failed: list[bool] = []
    with monkeypatch.context() as patched:
        patched.setattr(plain_broker, "disconnect", fail)
        plain_broker.failing.add("get_message")
        await eventually(lambda: failed)
    assert "get_message failed" in str(plain_feed.not_ready_reason)
    plain_broker.failing.clear()
    await eventually(lambda: plain_feed.not_ready_reason is None)
    plain_feed.submit(pending(1))
    await eventually(lambda: manager.entries)


async def test_without_probes_a_silent_broker_is_believed_and_one_that_fails_is_not(
    plain_broker: PlainBroker, manager: Manager
) -> None:
    made = PlainFeed(plain_broker, "channel", on_batch=manager.batch, settle=manager.settle, probe_seconds=None)
    await made.start()
    await eventually(lambda: made.not_ready_reason is None)
    assert made.silent_seconds == 0.0
    made.submit(pending(1))
    await eventually(lambda: manager.entries)
    plain_broker.failing |= {"get_message", "connect"}
    await eventually(lambda: "failed" in str(made.not_ready_reason))
    plain_broker.failing.clear()
    await eventually(lambda: made.not_ready_reason is None)
    await made.stop()


async def test_with_probes_it_says_how_long_it_has_been_silent(plain_feed: PlainFeed) -> None:
    plain_feed._heard_at -= 1_000
    assert 1_000 <= plain_feed.silent_seconds < 1_100


async def test_it_is_bounded(plain_feed: PlainFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_feed._outgoing = asyncio.Queue(maxsize=1)
    plain_feed.submit(pending(1))
    with pytest.raises(Overloaded):
        plain_feed.submit(pending(2))


async def test_a_broker_may_give_the_same_message_to_several_listeners(manager: Manager) -> None:
    class Sharing(PlainBroker):
        async def get_message(self, **kwargs: object) -> Message | None:
            return shared if not manager.entries else await super().get_message(**kwargs)

    shared = Message(type="send_by_conn_id", conn_id="c1", data={"n": 1})
    made = PlainFeed(Sharing(), "channel", on_batch=manager.batch, settle=manager.settle)
    await made.start()
    await eventually(lambda: manager.entries)
    await made.stop()
    assert shared.conn_id == "c1"
