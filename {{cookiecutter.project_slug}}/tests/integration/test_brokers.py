"""What every broker with a log promises: the same tests for the one in memory and for each real Redis that is there."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest
import redis.asyncio

from distributed_websocket import BrokerInterface, InMemoryBroker, Message, RedisBroker, create_broker, is_valid_broker
from distributed_websocket.brokers.interface import PROBE_TOPIC, Entry, LogBroker, Place, Record
from distributed_websocket.brokers.redis_streams import FOREIGN
from distributed_websocket.exceptions import BrokerError
from distributed_websocket.positions import parse_position
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.redis_server import RedisServer, free_port, redis_versions

Make = Callable[..., LogBroker]


@pytest.fixture(params=["memory", *redis_versions(), "sentinel", "cluster"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    made: list[LogBroker] = []
    urls: Callable[[str], str] = request.getfixturevalue("redis_urls")

    def make_one(**options: Any) -> LogBroker:
        if request.param == "memory":
            broker: LogBroker = InMemoryBroker(**options)
        else:
            broker = RedisBroker(urls(request.param), **options)
        made.append(broker)
        return broker

    yield make_one
    for broker in made:
        await broker.disconnect()


@pytest.fixture
async def broker(make: Make) -> LogBroker:
    broker = make(shards=1)
    await broker.connect()
    return broker


def record(number: int, topic: str = "room/1", conn_ids: tuple[str, ...] = (), key: str = "") -> Record:
    return Record(topic, b'{"n":%d}' % number, conn_ids, key)


def bodies(entries: list[Entry]) -> list[bytes]:
    return [entry.body for entry in entries]


async def read(
    broker: LogBroker, channel: str, after: str = "0-0", limit: int = 100, wait: float = 0.01
) -> list[Entry]:
    return await broker.read(channel, 0, after, limit=limit, wait_seconds=wait)


async def until_waiting(broker: LogBroker, channel: str, readers: int = 1) -> None:
    """So many reads of the first shard wait in the broker for what is not there yet."""
    if isinstance(broker, InMemoryBroker):
        log = broker._log(channel, 0)
        await eventually(lambda: len(log.grown._waiters) == readers)
        return
    assert isinstance(broker, RedisBroker)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await blocked_reads(broker, channel) != readers:  # noqa: ASYNC110 - Redis does not tell of it
            await asyncio.sleep(0.005)


async def blocked_reads(broker: RedisBroker, channel: str) -> int:
    """How many clients wait in an XREAD, on the server that holds the log."""
    (told,) = await broker._client.run(f"{broker._key(channel, 0)}:log", [("CLIENT", "LIST")])
    clients = [dict(field.split("=", 1) for field in line.split()) for line in told.decode().splitlines()]
    return sum("b" in client["flags"] and client["cmd"] == "xread" for client in clients)


# The log


async def test_what_was_appended_is_read_in_order_behind_a_position(broker: LogBroker, channel: str) -> None:
    records = [record(1), record(2, "b"), record(3, "", ("c1", "c2")), record(4, "räume/ü")]
    positions = await broker.append(channel, 0, records)
    entries = await read(broker, channel)
    assert entries == [Entry(p, r.topic, r.body, r.conn_ids) for p, r in zip(positions, records, strict=True)]
    assert [parse_position(p) for p in positions] == sorted({parse_position(p) for p in positions})
    assert await read(broker, channel, positions[1]) == entries[2:]
    assert await read(broker, channel, limit=2) == entries[:2]
    assert await read(broker, channel, positions[-1]) == []


async def test_positions_grow_over_appends(broker: LogBroker, channel: str) -> None:
    positions = [(await broker.append(channel, 0, [record(n)]))[0] for n in range(50)]
    assert [parse_position(p) for p in positions] == sorted({parse_position(p) for p in positions})


async def test_a_reader_that_waits_is_woken_by_an_append(broker: LogBroker, channel: str) -> None:
    extent = await broker.extent(channel, 0)
    waiting = asyncio.create_task(read(broker, channel, extent.last, wait=10))
    await until_waiting(broker, channel)
    await broker.append(channel, 0, [record(1)])
    assert bodies(await waiting) == [b'{"n":1}']


async def test_every_reader_that_waits_is_woken(make: Make, channel: str) -> None:
    broker = make(shards=1)
    last = (await broker.append(channel, 0, [record(0)]))[0]
    waiting = [asyncio.create_task(read(broker, channel, last, wait=10)) for _ in range(3)]
    await until_waiting(broker, channel, readers=3)
    await broker.append(channel, 0, [record(1), record(2)])
    for entries in await asyncio.gather(*waiting):
        assert bodies(entries) in ([b'{"n":1}', b'{"n":2}'], [b'{"n":1}'])


async def test_a_read_that_was_cancelled_leaves_the_next_one_its_own_answer(broker: LogBroker, channel: str) -> None:
    waiting = asyncio.create_task(read(broker, channel, wait=10))
    await until_waiting(broker, channel)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await broker.append(channel, 0, [record(1)])
    assert bodies(await read(broker, channel)) == [b'{"n":1}']
    assert (await broker.extent(channel, 0)).added == 1


async def test_a_read_is_cancelled_even_if_something_arrives_at_that_moment(channel: str) -> None:
    """Before Python 3.12 `asyncio.wait_for` swallows that cancellation: a reader that was stopped read on for ever."""
    broker = InMemoryBroker()
    waiting = asyncio.create_task(read(broker, channel, wait=10))
    await until_waiting(broker, channel)
    await broker.append(channel, 0, [record(1)])
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_channels_and_shards_are_logs_of_their_own(make: Make, channel: str) -> None:
    broker = make(shards=2)
    await broker.append(channel, 0, [record(1)])
    await broker.append(channel, 1, [record(2)])
    await broker.append(channel + "-other", 0, [record(3)])
    assert bodies(await read(broker, channel)) == [b'{"n":1}']
    assert bodies(await broker.read(channel, 1, "0-0", limit=9, wait_seconds=0.01)) == [b'{"n":2}']


async def test_the_extent_says_what_the_log_holds(broker: LogBroker, channel: str) -> None:
    empty = await broker.extent(channel, 0)
    assert (empty.last, empty.first, empty.added, empty.given_up) == ("0-0", "", 0, 0)
    first, last = await broker.append(channel, 0, [record(1), record(2)])
    extent = await broker.extent(channel, 0)
    assert (extent.last, extent.first, extent.added, extent.given_up) == (last, first, 2, 0)
    assert extent.epoch == empty.epoch


async def test_ranges_go_forward_and_back(broker: LogBroker, channel: str) -> None:
    positions = await broker.append(channel, 0, [record(n) for n in range(6)])

    async def forward(after: str, until: str, limit: int = 9) -> list[bytes]:
        return bodies(await broker.range(channel, 0, after, until, limit=limit))

    async def back(before: str, limit: int = 9) -> list[bytes]:
        return bodies(await broker.range_back(channel, 0, before, limit=limit))

    texts = [b'{"n":%d}' % n for n in range(6)]
    assert await forward("0-0", positions[-1]) == texts
    assert await forward(positions[1], positions[3]) == texts[2:4]
    assert await forward("0-0", positions[-1], limit=2) == texts[:2]
    assert await forward(positions[-1], positions[-1]) == []
    assert await back("") == texts[::-1]
    assert await back(positions[3]) == texts[2::-1]
    assert await back("", limit=2) == texts[:3:-1]
    assert await back(positions[0]) == []


async def test_the_log_is_bounded_and_says_what_it_gave_up(make: Make, channel: str) -> None:
    broker = make(shards=1, retention_messages=100)
    for start in range(0, 1_000, 50):
        await broker.append(channel, 0, [record(n) for n in range(start, start + 50)])
    extent = await broker.extent(channel, 0)
    held = await broker.range_back(channel, 0, "", limit=2_000)
    assert 100 <= len(held) <= 300
    assert (extent.added, extent.given_up) == (1_000, 1_000 - len(held))
    assert extent.first == held[-1].position
    assert bodies(held[:1]) == [b'{"n":999}']


# Idempotency


async def test_a_key_is_stored_once_and_gets_the_same_position(broker: LogBroker, channel: str) -> None:
    (first,) = await broker.append(channel, 0, [record(1, key="k")])
    again = await broker.append(channel, 0, [record(2), record(1, key="k"), record(3, key="other")])
    assert again[1] == first
    assert bodies(await read(broker, channel)) == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


async def test_a_key_counts_within_one_batch_too(broker: LogBroker, channel: str) -> None:
    first, second = await broker.append(channel, 0, [record(1, key="k"), record(1, key="k")])
    assert first == second
    assert (await broker.extent(channel, 0)).added == 1


async def test_the_keys_in_memory_are_bounded(channel: str) -> None:
    broker = InMemoryBroker(retention_messages=2)
    await broker.append(channel, 0, [record(n, key=f"k{n}") for n in range(3)])
    await broker.append(channel, 0, [record(0, key="k0"), record(2, key="k2")])
    assert (await broker.extent(channel, 0)).added == 4


# Probes


async def test_a_probe_wakes_whoever_waits_and_is_not_kept(broker: LogBroker, channel: str) -> None:
    await read(broker, channel)
    waiting = asyncio.create_task(read(broker, channel, wait=10))
    await until_waiting(broker, channel)
    await broker.append(channel, 0, [Record(PROBE_TOPIC, b"{}")])
    entries = await waiting
    assert {entry.position for entry in entries} == {""}
    assert (await broker.extent(channel, 0)).added == 0
    assert await read(broker, channel) == []


async def test_what_is_ephemeral_is_heard_by_who_waits_and_is_not_kept(broker: LogBroker, channel: str) -> None:
    await read(broker, channel)
    waiting = asyncio.create_task(read(broker, channel, wait=10))
    await until_waiting(broker, channel)
    await broker.append(channel, 0, [Record("room/1", b'{"n":1}', ephemeral=True)])
    assert await waiting == [Entry("", "room/1", b'{"n":1}')]
    waiting = asyncio.create_task(read(broker, channel, wait=10))
    await until_waiting(broker, channel)
    mixed = [Record("room/1", b'{"n":2}', ephemeral=True), record(3), Record(PROBE_TOPIC, b"{}")]
    await broker.append(channel, 0, mixed)
    heard = await waiting
    if len(heard) == 1:  # Redis 7 wakes a reader with the first of the two streams alone
        heard += await read(broker, channel)
    assert sorted(bodies(heard)) == [b'{"n":2}', b'{"n":3}']
    assert (await broker.extent(channel, 0)).added == 1


# Presence

ALICE, BOB = Place("room/1", "alice"), Place("room/1", "bob")


async def events(broker: LogBroker, channel: str) -> list[tuple[str, str]]:
    """What the log tells of who came and went."""
    return [(fields["type"], fields["user"]) for fields in (orjson.loads(e.body) for e in await read(broker, channel))]


async def members(broker: LogBroker, channel: str, limit: int = 9) -> tuple[list[tuple[str, str]], int]:
    found, total = await broker.presence_members(channel, 0, "room/1", limit=limit)
    return sorted((member["user"], member["worker"]) for member in found), total


async def change(
    broker: LogBroker,
    channel: str,
    worker: str,
    entered: Sequence[Place] = (),
    left: Sequence[Place] = (),
    lives: float = 60,
) -> int:
    return await broker.presence_change(channel, 0, worker, entered, left, lives_seconds=lives)


async def test_a_user_is_there_from_the_first_worker_to_the_last(broker: LogBroker, channel: str) -> None:
    await change(broker, channel, "chat-1#a", [ALICE, BOB, Place("room/2", "carol")])
    await change(broker, channel, "chat-1#a", [ALICE])
    await change(broker, channel, "chat-2#b", [ALICE])
    assert await members(broker, channel) == ([("alice", "chat-1"), ("bob", "chat-1")], 2)
    assert (await members(broker, channel, limit=1))[1] == 2
    await change(broker, channel, "chat-1#a", left=[ALICE, BOB])
    await change(broker, channel, "chat-1#a", left=[ALICE])
    assert await members(broker, channel) == ([("alice", "chat-2")], 1)
    await change(broker, channel, "chat-2#b", left=[ALICE])
    assert await members(broker, channel) == ([], 0)
    assert await events(broker, channel) == [
        ("joined", "alice"),
        ("joined", "bob"),
        ("joined", "carol"),
        ("left", "bob"),
        ("left", "alice"),
    ]


SHORT = 0.2
"""Seconds that a worker lives which the test lets die."""


async def beats_until(
    broker: LogBroker, channel: str, worker: str, met: Callable[[], Awaitable[bool]], lives: float = SHORT
) -> None:
    """A worker beats as often as it takes until the others that are dead were made to leave."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await met():
            await broker.presence_beat(channel, 0, worker, lives_seconds=lives)
            await asyncio.sleep(SHORT / 20)


async def test_whom_a_dead_worker_had_leave_when_another_one_beats(broker: LogBroker, channel: str) -> None:
    await change(broker, channel, "chat-1#a", [ALICE, BOB], lives=SHORT)
    await change(broker, channel, "chat-2#b", [BOB])

    async def alice_left() -> bool:
        return ("left", "alice") in await events(broker, channel)

    await beats_until(broker, channel, "chat-2#b", alice_left)
    assert await members(broker, channel) == ([("bob", "chat-2")], 1)
    await broker.presence_beat(channel, 0, "chat-2#b", lives_seconds=SHORT)
    assert await events(broker, channel) == [("joined", "alice"), ("joined", "bob"), ("left", "alice")]


async def test_a_worker_that_beats_lives(broker: LogBroker, channel: str) -> None:
    await change(broker, channel, "chat-1#a", [ALICE], lives=SHORT)
    await broker.presence_beat(channel, 0, "chat-1#a", lives_seconds=60)
    await change(broker, channel, "chat-3#c", [BOB], lives=SHORT)

    async def bob_left() -> bool:
        return ("left", "bob") in await events(broker, channel)

    await beats_until(broker, channel, "chat-2#b", bob_left)
    assert await members(broker, channel) == ([("alice", "chat-1")], 1)


@pytest.mark.parametrize("returns_by", ["beat", "change"])
async def test_a_worker_that_was_away_for_longer_than_it_lives_learns_it_and_enters_its_users_again(
    broker: LogBroker, channel: str, returns_by: str
) -> None:
    """It was not told, so those whom the others had made to leave were never there again, though they were connected.

    There are more of them than Redis takes away at one beat, so some are still there.
    """
    crowd = [Place("room/1", f"user{n}") for n in range(700)]

    async def some_left() -> bool:
        return (await members(broker, channel))[1] < len(crowd)

    since = await change(broker, channel, "chat-1#a", crowd, lives=SHORT)
    await beats_until(broker, channel, "chat-2#b", some_left)
    if returns_by == "beat":
        back = await broker.presence_beat(channel, 0, "chat-1#a", lives_seconds=60)
    else:
        back = await change(broker, channel, "chat-1#a")
    assert back != since, "the same life as before"
    assert await broker.presence_beat(channel, 0, "chat-1#a", lives_seconds=60) == back
    assert await change(broker, channel, "chat-1#a", crowd) == back
    assert (await members(broker, channel))[1] == len(crowd)


async def test_after_an_outage_for_all_nobody_left_who_comes_back_in_time(broker: LogBroker, channel: str) -> None:
    """The first worker that came back made the users of all others leave, who then joined again."""
    carol = Place("room/1", "carol")
    since = [
        await change(broker, channel, worker, [place], lives=SHORT)
        for worker, place in (("chat-1#a", ALICE), ("chat-2#b", BOB), ("chat-3#c", carol))
    ]
    await asyncio.sleep(2 * SHORT)  # longer than any of them lives
    back = [
        await broker.presence_beat(channel, 0, worker, lives_seconds=60)
        for worker in ("chat-1#a", "chat-1#a", "chat-2#b")
    ]
    assert back[0] == back[1] > since[0]
    assert back[2] > since[1]
    joined = [("joined", "alice"), ("joined", "bob"), ("joined", "carol")]
    assert await events(broker, channel) == joined

    async def somebody_left() -> bool:
        return len(await events(broker, channel)) > len(joined)

    await beats_until(broker, channel, "chat-1#a", somebody_left)
    assert await events(broker, channel) == [*joined, ("left", "carol")]
    assert await members(broker, channel) == ([("alice", "chat-1"), ("bob", "chat-2")], 2)


async def test_joined_and_left_are_bounded_as_messages_are(make: Make, channel: str) -> None:
    """They were bounded by age alone where nobody wrote; what is trimmed so counts as given up, not as lost."""
    broker = make(shards=1, retention_messages=100)
    crowd = [Place("room/1", f"user{n}") for n in range(300)]
    await change(broker, channel, "chat-1#a", crowd[:1])
    first = await broker.extent(channel, 0)
    await change(broker, channel, "chat-1#a", crowd, lives=SHORT)
    entered = await broker.extent(channel, 0)
    assert entered.added - entered.given_up <= 200

    async def all_left() -> bool:
        return (await members(broker, channel))[1] == 0

    await beats_until(broker, channel, "chat-2#b", all_left)
    extent = await broker.extent(channel, 0, known=(first.last, first.epoch))
    held = await broker.range_back(channel, 0, "", limit=2_000)
    assert 100 <= len(held) <= 200
    assert (extent.added, extent.given_up) == (600, 600 - len(held))
    assert extent.epoch == first.epoch


# Shards


def test_a_topic_and_all_that_share_its_first_level_lie_in_one_shard() -> None:
    broker = InMemoryBroker(shards=4)
    assert broker.shards_of("room/#") == broker.shards_of("room/1") == (broker.shard_of("room"),)
    assert list(broker.shards_of("#")) == list(broker.shards_of("+/1")) == [0, 1, 2, 3]
    assert {broker.shard_of(f"room{n}") for n in range(50)} == {0, 1, 2, 3}
    assert broker.shard_of("") == 0
    with pytest.raises(ValueError, match="at least 1, not 0"):
        InMemoryBroker(shards=0)


def test_with_two_leading_levels_rooms_spread_and_what_is_below_a_room_lies_with_it() -> None:
    broker = create_broker("memory://", shards=4, shard_levels=2)
    assert isinstance(broker, LogBroker)
    assert {broker.shard_of(f"room/{n}") for n in range(50)} == {0, 1, 2, 3}
    for topic in ("room/1", "room/1/typing", "room/1/a/b"):
        assert broker.shards_of(topic) == (broker.shard_of("room/1"),)
    assert broker.shards_of("room/1/#") == broker.shards_of("room/1/+") == (broker.shard_of("room/1"),)
    assert broker.shards_of("room") == (broker.shard_of("room"),)
    for pattern in ("#", "+", "+/1", "room/#", "room/+", "room/+/typing"):
        assert list(broker.shards_of(pattern)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="shard_levels must be at least 1, not 0"):
        InMemoryBroker(shard_levels=0)


# The six coroutines


async def test_the_six_coroutines_work_on_their_own(make: Make, channel: str) -> None:
    broker = make(shards=2)
    assert is_valid_broker(broker)
    await broker.connect()
    await broker.publish(channel, {"type": "send", "topic": "a", "n": 0})
    await broker.subscribe(channel)
    await broker.subscribe(channel)
    assert await broker.get_message(wait_seconds=0.01) is None
    await broker.publish(channel, Message(topic="a", data={"n": 1}))
    await broker.publish(channel, '{"topic":"a","n":2}')
    await broker.publish(channel, {"type": "send_by_conn_id", "conn_id": ["c1"], "n": 3})
    await broker.append(channel, 0, [Record(PROBE_TOPIC, b"{}")])
    got: list[Message] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(got) < 3:
            message = await broker.get_message(wait_seconds=0.1)
            if message is not None:
                got.append(message)
    got.sort(key=lambda message: int(message.data["n"]))
    assert [(m.type, m.topic, m.conn_id, m.data["n"]) for m in got] == [
        ("send", "a", None, 1),
        ("send", "a", None, 2),
        ("send_by_conn_id", None, ["c1"], 3),
    ]
    assert all(parse_position(message.data["id"]) for message in got)
    await broker.unsubscribe(channel)
    await broker.unsubscribe(channel)
    assert await broker.get_message(wait_seconds=0.01) is None


async def test_a_probe_is_no_message(channel: str) -> None:
    """It was given out as one, and left the reader of the six coroutines without a position."""
    broker = InMemoryBroker()
    await broker.subscribe(channel)
    waiting = asyncio.create_task(broker.get_message(wait_seconds=60))
    await until_waiting(broker, channel)
    await broker.append(channel, 0, [Record(PROBE_TOPIC, b"{}")])
    assert await asyncio.wait_for(waiting, DEADLINE_SECONDS) is None  # the probe's end of the wait, not the wait's own
    await broker.publish(channel, {"topic": "a", "n": 1})
    message = await broker.get_message()
    assert message is not None
    assert message.data["n"] == 1


# Which one


async def test_the_url_chooses_the_broker() -> None:
    assert isinstance(create_broker("memory://"), InMemoryBroker)
    assert isinstance(create_broker("memory://", shards=3), LogBroker)
    for url in ("redis://127.0.0.1:1/0", "rediss://127.0.0.1:1/0"):
        broker = create_broker(url)
        assert isinstance(broker, RedisBroker)
        await broker.disconnect()
    with pytest.raises(ValueError, match="no broker for the scheme 'kafka'"):
        create_broker("kafka://x")


def test_a_broker_is_valid_by_its_six_coroutines() -> None:
    class Incomplete:
        async def connect(self) -> None: ...

    assert is_valid_broker(InMemoryBroker)
    assert is_valid_broker(BrokerInterface)
    assert not is_valid_broker(Incomplete)
    assert not is_valid_broker(None)


# Redis alone


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator["redis.asyncio.Redis"]:
    async with redis.asyncio.Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
async def redis_broker(redis_server: RedisServer) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(redis_server.url, shards=1)
    yield broker
    await broker.disconnect()


async def test_age_bounds_the_log_too(redis_server: RedisServer, channel: str, client: "redis.asyncio.Redis") -> None:
    broker = RedisBroker(redis_server.url, shards=1, retention_seconds=60)
    key = f"{{{channel}:0/1/1}}:log"
    for n in range(500):
        await client.xadd(key, {"t": "room/1", "b": b'{"n":%d}' % n}, id=f"{n + 1}-0")
    (position,) = await broker.append(channel, 0, [record(1)])
    extent = await broker.extent(channel, 0)
    assert extent.given_up >= 300
    assert extent.last == position
    await broker.disconnect()


async def test_an_idempotency_key_is_forgotten_after_its_window(
    redis_server: RedisServer, channel: str, client: "redis.asyncio.Redis"
) -> None:
    broker = RedisBroker(redis_server.url, shards=1, idempotency_seconds=2)
    (first,) = await broker.append(channel, 0, [record(1, key="k")])
    assert await broker.append(channel, 0, [record(1, key="k")]) == [first]
    pattern = f"{{{channel}:0/1/1}}:keys:*"
    deadline = asyncio.get_running_loop().time() + 10
    while [key async for key in client.scan_iter(pattern)]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert await broker.append(channel, 0, [record(1, key="k")]) != [first]
    await broker.disconnect()


@pytest.mark.parametrize(
    "fields",
    [
        {"some": "thing"},
        {"t": "room/1"},
        {"t": "room/1", "b": "no object"},
        {"t": b"\xff", "b": '{"n":1}'},
        {"t": "room/1", "b": '{"n":1}', "c": "not json"},
        {"t": "room/1", "b": '{"n":1}', "c": "5"},
        {"t": "room/1", "b": '{"n":1}', "c": "[[1]]"},
    ],
    ids=str,
)
async def test_what_another_program_wrote_into_the_log_is_passed_over(
    redis_broker: RedisBroker, channel: str, client: "redis.asyncio.Redis", fields: dict[Any, Any]
) -> None:
    await client.xadd(f"{{{channel}:0/1/1}}:log", fields)
    position = (await redis_broker.extent(channel, 0)).last
    assert await read(redis_broker, channel) == [Entry(position, FOREIGN, b"{}")]


async def test_a_redis_that_is_not_there_is_a_broker_error_that_says_so(channel: str) -> None:
    broker = RedisBroker(f"redis://127.0.0.1:{free_port()}/0", shards=1)
    with pytest.raises(BrokerError, match="could not connect to Redis"):
        await broker.connect()
    with pytest.raises(BrokerError, match="could not append to Redis"):
        await broker.append(channel, 0, [record(1)])
    with pytest.raises(BrokerError, match="could not read from Redis"):
        await read(broker, channel)
    with pytest.raises(BrokerError, match="could not look at the log in Redis"):
        await broker.extent(channel, 0)
    await broker.disconnect()


async def test_a_redis_that_does_not_answer_is_given_up_on(own_redis: RedisServer, channel: str) -> None:
    broker = RedisBroker(own_redis.url, shards=1, command_timeout_seconds=1)
    assert broker._client.answer_seconds == 1
    broker._client.answer_seconds = DEADLINE_SECONDS  # for what has to succeed, on a busy machine too
    await broker.connect()
    own_redis.freeze()
    broker._client.answer_seconds = 1
    with pytest.raises(BrokerError, match="no answer within 1 s"):
        await broker.append(channel, 0, [record(1)])
    own_redis.thaw()
    broker._client.answer_seconds = DEADLINE_SECONDS
    await broker.append(channel, 0, [record(2)])
    await broker.disconnect()


async def test_a_silent_connection_is_read_from_for_as_long_as_was_asked(
    redis_broker: RedisBroker, channel: str, redis_server: RedisServer
) -> None:
    """redis-py 8 gives up a socket that is silent for its command timeout: a reader waits on purpose."""
    broker = RedisBroker(redis_server.url, shards=1)
    await broker.connect()
    broker._client.answer_seconds = 0.5  # for what waits on purpose alone: on a busy machine connecting takes longer
    waiting = asyncio.create_task(read(broker, channel, wait=60))
    await until_waiting(redis_broker, channel)
    await asyncio.sleep(1.5)  # longer than the command timeout
    await redis_broker.append(channel, 0, [record(1)])
    assert len(await asyncio.wait_for(waiting, DEADLINE_SECONDS)) == 1
    await broker.disconnect()


async def test_scripts_are_loaded_again_after_redis_forgot_them(
    redis_broker: RedisBroker, channel: str, client: "redis.asyncio.Redis"
) -> None:
    await redis_broker.append(channel, 0, [record(1)])
    await client.script_flush()
    await redis_broker.append(channel, 0, [record(2)])
    assert len(await read(redis_broker, channel)) == 2


@pytest.mark.parametrize("other", [{"shards": 2}, {"shards": 1, "shard_levels": 2}])
async def test_another_number_of_shards_or_of_their_levels_is_another_log(
    redis_server: RedisServer, channel: str, other: dict[str, int]
) -> None:
    one, two = RedisBroker(redis_server.url, shards=1), RedisBroker(redis_server.url, **other)  # type: ignore[arg-type]
    await one.append(channel, 0, [record(1)])
    assert (await two.extent(channel, 0)).added == 0
    await one.disconnect()
    await two.disconnect()


async def test_the_keys_of_a_shard_share_a_hash_tag(
    redis_broker: RedisBroker, channel: str, client: "redis.asyncio.Redis"
) -> None:
    await redis_broker.append(channel, 0, [record(1, key="k"), Record(PROBE_TOPIC, b"{}")])
    keys = [key.decode() async for key in client.scan_iter(f"*{channel}*")]
    assert len(keys) == 4
    assert {key.split("}")[0] for key in keys} == {f"{{{channel}:0/1/1"}


async def test_a_reader_waits_and_is_woken_by_another_process(redis_server: RedisServer, channel: str) -> None:
    reader, writer = RedisBroker(redis_server.url, shards=1), RedisBroker(redis_server.url, shards=1)
    waiting = asyncio.create_task(read(reader, channel, wait=10))
    await until_waiting(writer, channel)
    await writer.append(channel, 0, [record(1, key=secrets.token_hex(2))])
    assert len(await waiting) == 1
    await reader.disconnect()
    await writer.disconnect()
