"""What clients may ask for: each answer, each refusal, and how somebody who resumes gets what was missed."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from distributed_websocket import (
    CloseCode,
    Connection,
    InMemoryBroker,
    Limits,
    Message,
    Policy,
    WebSocketException,
    WebSocketManager,
    requests,
)
from distributed_websocket.auth import Identity
from distributed_websocket.brokers.interface import Entry, Record
from distributed_websocket.exceptions import BrokerError, InvalidMessage
from distributed_websocket.message import SERVER_TYPES
from distributed_websocket.recovery import Tail
from distributed_websocket.subscriptions import subscribe
from tests.deadline import eventually
from tests.faulty_broker import FaultyBroker
from tests.wire import Fields, RawWire, Wire


class Client:
    """A connection of a manager, with what it was sent."""

    def __init__(self, manager: WebSocketManager, connection: Connection, raw: RawWire) -> None:
        self.manager = manager
        self.connection = connection
        self.raw = raw

    async def ask(self, kind: str, **fields: Any) -> Fields:
        """Send a request and return the first thing that it was answered with."""
        before = len(self.raw.received)
        await self.manager.receive(self.connection, {"type": kind, **fields})
        await eventually(lambda: len(self.raw.received) > before)
        return self.raw.received[before]

    def numbers(self) -> list[int]:
        return [message["n"] for message in self.raw.received if message["type"] == "send"]


async def join(manager: WebSocketManager, user: str | None = None, **options: Any) -> Client:
    raw = RawWire()
    connection = await manager.new_connection(Wire(raw).websocket, f"c{len(manager)}", user=user, **options)
    return Client(manager, connection, raw)


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker()


@pytest.fixture
async def manager(broker: FaultyBroker) -> AsyncIterator[WebSocketManager]:
    async with WebSocketManager("channel", broker=broker, probe_seconds=None, answer_seconds=0.2) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        yield manager


@pytest.fixture
async def client(manager: WebSocketManager) -> Client:
    return await join(manager, "alice")


async def publish(broker: InMemoryBroker, *numbers: int, topic: str = "room/1") -> str:
    """Append messages as another worker would. Returns the position of the last."""
    records = [Record(topic, b'{"type":"send","topic":"%b","n":%d}' % (topic.encode(), n)) for n in numbers]
    return (await broker.append("channel", 0, records))[-1]


async def epoch(broker: InMemoryBroker) -> str:
    return (await broker.extent("channel", 0)).epoch


# Publishing


async def test_a_send_is_acknowledged_with_its_position_once_it_is_stored(client: Client, broker: FaultyBroker) -> None:
    ack = await client.ask("send", topic="room/1", data="x", ref="r")
    extent = await broker.extent("channel", 0)
    assert ack == {"type": "ack", "ref": "r", "id": extent.last}


async def test_a_send_without_a_ref_is_not_acknowledged(client: Client, broker: FaultyBroker) -> None:
    await client.manager.receive(client.connection, {"type": "send", "topic": "room/1"})
    await eventually(broker.texts)
    assert [message["type"] for message in client.raw.received] == ["welcome"]


async def test_what_the_server_vouches_for_cannot_be_forged(client: Client) -> None:
    await client.ask("subscribe", topic="room/1")
    await client.manager.receive(
        client.connection, {"type": "send", "topic": "room/1", "id": "9-9", "from": "bob", "at": 1, "n": 5}
    )
    await eventually(client.numbers)
    message = client.raw.received[-1]
    assert message["from"] == "alice"
    assert message["id"] != "9-9"
    assert abs(message["at"] / 1000 - time.time()) < 60


async def test_a_message_that_is_not_stored_is_answered_with_an_error(client: Client, broker: FaultyBroker) -> None:
    client.manager.feed.publisher._retry_seconds = 0  # type: ignore[attr-defined]
    broker.fail("append", BrokerError("down"))
    error = await client.ask("send", topic="room/1", ref="r")
    assert error == {"type": "error", "code": "unavailable", "detail": "down", "ref": "r"}


async def test_an_overloaded_worker_says_so(broker: FaultyBroker) -> None:
    async with WebSocketManager("channel", broker=broker, limits=Limits(waiting_bytes=10)) as manager:
        client = await join(manager)
        assert (await client.ask("send", topic="room/1", ref="r"))["code"] == "overloaded"


# Refusals


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"type": "broadcast"}, "not_allowed"),
        ({"type": "send_by_conn_id", "conn_id": "c"}, "not_allowed"),
        ({"type": "send_by_conn_id", "conn_id": ["c"]}, "not_allowed"),
        ({"type": "send", "topic": "$x"}, "not_allowed"),
        ({"type": "subscribe", "topic": "$x"}, "not_allowed"),
        ({"type": "history", "topic": "$x"}, "not_allowed"),
        ({"type": "presence", "topic": "$x"}, "not_allowed"),
        ({"type": "authenticate", "token": "t"}, "not_allowed"),
        ({"type": "shutdown"}, "unknown_type"),
        ({"type": "subscribe", "topic": "a/#/b"}, "invalid_topic"),
        ({"type": "history", "topic": "a", "limit": 0}, "invalid_message"),
        ({"type": "history", "topic": "a", "limit": True}, "invalid_message"),
        ({"type": "history", "topic": "a", "limit": 201}, "invalid_message"),
        ({"type": "history", "topic": "a", "limit": "5"}, "invalid_message"),
        ({"type": "history", "topic": "a", "before": "yesterday"}, "invalid_message"),
        ({"type": "history", "topic": "a", "before": 5}, "invalid_message"),
        ({"type": "subscribe", "topic": "a", "since": 5}, "invalid_message"),
        ({"type": "subscribe", "topic": "a", "since": {}}, "invalid_message"),
        ({"type": "subscribe", "topic": "a", "since": {"position": 5, "epoch": "e"}}, "invalid_message"),
        ({"type": "subscribe", "topic": "a", "since": {"position": "5-0", "epoch": 5}}, "invalid_message"),
        ({"type": "subscribe", "topic": "a", "since": {"position": "five", "epoch": "e"}}, "invalid_message"),
    ],
    ids=str,
)
async def test_what_may_not_be_is_answered_with_an_error_that_repeats_the_ref(
    client: Client, fields: Fields, code: str
) -> None:
    error = await client.ask(ref=7, **{"kind": fields["type"]}, **{k: v for k, v in fields.items() if k != "type"})
    assert (error["type"], error["code"], error["ref"]) == ("error", code, 7)
    assert client.connection.topics == set()


class Showing(Policy):
    """Who is in a topic is no secret."""

    def shows_presence(self, topic: str) -> bool:
        return True


async def test_a_message_object_is_taken_as_well_as_a_dict_even_without_data(broker: FaultyBroker) -> None:
    async with WebSocketManager("channel", broker=broker, policy=Showing()) as manager:
        client = await join(manager)
        for kind in ("subscribe", "history", "presence", "unsubscribe"):
            await manager.receive(client.connection, Message(type=kind, topic="room/1"))
        assert [message["type"] for message in client.raw.received[1:]] == [
            "subscribed",
            "history",
            "presence",
            "unsubscribed",
        ]
        for message in (
            Message(type="authenticate"),
            Message(type="no such type", data=[1]),
            Message(type="subscribe"),
        ):
            await manager.receive(client.connection, message)
        assert [message["code"] for message in client.raw.received[-3:]] == [
            "not_allowed",
            "invalid_message",
            "invalid_topic",
        ]


async def test_subscriptions_are_bounded(broker: FaultyBroker) -> None:
    async with WebSocketManager("channel", broker=broker, limits=Limits(subscriptions=1)) as manager:
        client = await join(manager)
        assert (await client.ask("subscribe", topic="a"))["type"] == "subscribed"
        assert (await client.ask("subscribe", topic="a"))["type"] == "subscribed"
        assert (await client.ask("subscribe", topic="b"))["code"] == "too_many_subscriptions"


async def test_presence_is_answered_with_members_where_the_policy_shows_it(
    client: Client, broker: FaultyBroker
) -> None:
    assert (await client.ask("presence", topic="room/1"))["code"] == "not_allowed"
    async with WebSocketManager("channel", broker=broker, policy=Showing()) as manager:
        member = await join(manager, "alice")
        answer = await member.ask("presence", topic="room/1", ref=1)
        assert answer == {"type": "presence", "topic": "room/1", "ref": 1, "members": [], "total": 0}


class Open(Policy):
    """Everybody may address everybody."""

    def may_broadcast(self, connection: Connection) -> bool:
        return True

    def may_address(self, connection: Connection, conn_ids: tuple[str, ...]) -> bool:
        return conn_ids != ("secret",)


async def test_where_the_policy_allows_it_everybody_and_named_connections_are_reached(broker: FaultyBroker) -> None:
    async with WebSocketManager("channel", broker=broker, policy=Open()) as manager:
        sender, one, other = [await join(manager) for _ in range(3)]
        await sender.ask("broadcast", n=1, ref=1)
        await sender.ask("send_by_conn_id", conn_id=["c1", "nobody"], n=2, ref=2)
        await sender.ask("send_by_conn_id", conn_id="c2", n=3, ref=3)
        assert (await sender.ask("send_by_conn_id", conn_id="secret", n=4))["code"] == "not_allowed"
        await eventually(lambda: len(one.raw.received) == len(other.raw.received) == 3)
        assert [message["n"] for message in one.raw.received[1:]] == [1, 2]
        assert [message["n"] for message in other.raw.received[1:]] == [1, 3]


# A fresh token


async def test_a_fresh_token_of_the_same_user_renews_the_connection(broker: FaultyBroker) -> None:
    def verify(token: str) -> Identity:
        if token == "bad":
            raise InvalidMessage("no")
        return Identity(user=token, expires_at=9e9, token=token)

    async with WebSocketManager("channel", broker=broker, verify=verify) as manager:
        client = await join(manager, "alice", expires_at=time.time() + 60)
        assert (await client.ask("authenticate", token=5))["code"] == "invalid_message"
        assert (await client.ask("authenticate", token="bad"))["code"] == "invalid_message"
        assert (await client.ask("authenticate", token="bob"))["code"] == "invalid_token"
        answer = await client.ask("authenticate", token="alice", ref=1)
        assert answer == {"type": "authenticated", "expires_at": 9e9, "ref": 1}
        assert client.connection.expiry is not None
        assert client.connection.expiry.expires_at == 9e9


# History


async def test_history_is_paged_backwards(client: Client, broker: FaultyBroker) -> None:
    for number in range(5):
        await publish(broker, number)
        await publish(broker, number, topic="other")
    newest = await client.ask("history", topic="room/1", limit=2, ref="h")
    assert [message["n"] for message in newest["messages"]] == [3, 4]
    assert (newest["topic"], newest["ref"], newest["more"]) == ("room/1", "h", True)
    older = await client.ask("history", topic="room/1", before=newest["messages"][0]["id"])
    assert [message["n"] for message in older["messages"]] == [0, 1, 2]
    assert older["more"] is False


# Subscribing


async def test_subscribing_says_from_which_position_on_everything_is_delivered(
    client: Client, broker: FaultyBroker
) -> None:
    position = await publish(broker, 0)
    await eventually(lambda: client.manager.feed.follow("room/1")[0].position == position)
    answer = await client.ask("subscribe", topic="room/1", ref=1)
    assert answer == {
        "type": "subscribed",
        "topic": "room/1",
        "position": position,
        "epoch": await epoch(broker),
        "ref": 1,
    }
    await publish(broker, 1)
    await eventually(lambda: client.numbers() == [1])


async def test_a_pattern_over_several_shards_has_no_position_and_is_never_said_to_be_recovered() -> None:
    broker = InMemoryBroker(shards=3)
    async with WebSocketManager("channel", broker=broker) as manager:
        client = await join(manager)
        answer = await client.ask("subscribe", topic="+/1")
        assert (answer["position"], answer["epoch"], "recovered" in answer) == (None, None, False)
        answer = await client.ask("subscribe", topic="#", since={"position": "0-0", "epoch": "e"})
        assert answer["recovered"] is False


async def test_a_log_that_cannot_be_read_is_said_to_be_unavailable(client: Client, broker: FaultyBroker) -> None:
    broken = FaultyBroker(shards=2)
    broken.fail("extent", BrokerError("down"))
    async with WebSocketManager("channel", broker=broken, answer_seconds=0.02) as manager:
        client = await join(manager)
        assert (await client.ask("subscribe", topic="room/1", ref=1))["code"] == "unavailable"
        assert client.connection.topics == set()


async def test_a_connection_that_goes_while_it_subscribes_leaves_nothing_behind() -> None:
    broken = FaultyBroker(shards=4)
    broken.hanging.add("extent")
    async with WebSocketManager("channel", broker=broken) as manager:
        client = await join(manager)
        shard = broken.shard_of("room")
        asking = asyncio.create_task(manager.receive(client.connection, {"type": "subscribe", "topic": "room/1"}))
        await eventually(lambda: shard in manager.feed._readers)  # type: ignore[attr-defined]
        manager.remove_connection(client.connection)
        broken.heal()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert len(manager.index) == 0
        assert set(manager.feed._readers) == {0}  # type: ignore[attr-defined]


async def test_a_connection_that_was_removed_while_it_subscribes_is_not_followed() -> None:
    broken = FaultyBroker()
    broken.fail("extent", BrokerError("not yet"))
    async with WebSocketManager("channel", broker=broken) as manager:
        client = await join(manager)
        asking = asyncio.create_task(manager.receive(client.connection, {"type": "subscribe", "topic": "room/1"}))
        await eventually(lambda: broken.extents)
        manager.remove_connection(client.connection)
        broken.heal()
        await asking
        assert len(manager.index) == 0


# Resuming


async def since(broker: InMemoryBroker, position: str) -> Fields:
    return {"position": position, "epoch": await epoch(broker)}


async def test_who_resumes_gets_what_was_missed_once_and_in_order_and_then_what_is_new(
    client: Client, broker: FaultyBroker
) -> None:
    position = await publish(broker, 0)
    await publish(broker, 1, 2)
    await publish(broker, 9, topic="other")
    answer = await client.ask("subscribe", topic="room/1", since=await since(broker, position), ref=1)
    assert answer == {
        "type": "subscribed",
        "topic": "room/1",
        "position": position,
        "epoch": await epoch(broker),
        "recovered": True,
        "ref": 1,
    }
    await publish(broker, 3)
    await eventually(lambda: client.numbers() == [1, 2, 3])


async def test_who_missed_nothing_is_told_so_and_nothing_more(client: Client, broker: FaultyBroker) -> None:
    position = await publish(broker, 0)
    before = len(client.raw.received)
    answer = await client.ask("subscribe", topic="room/1", since=await since(broker, position))
    assert answer["recovered"] is True
    assert len(client.raw.received) == before + 1


async def test_what_the_memory_does_not_reach_is_read_from_the_log(
    client: Client, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "PAGE", 7)
    await publish(broker, *range(50))
    await publish(broker, 99, topic="other")
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as late:
        newcomer = await join(late)
        answer = await newcomer.ask("subscribe", topic="room/#", since=await since(broker, "0-0"))
        assert answer["recovered"] is True
        await publish(broker, 50)
        await eventually(lambda: newcomer.numbers() == list(range(51)))


@pytest.mark.parametrize("log", ["another epoch", "trimmed", "lost its end"])
async def test_where_the_log_does_not_reach_back_the_client_is_told_and_gets_no_part_of_it(log: str) -> None:
    broker = InMemoryBroker(retention_messages=5)
    await publish(broker, *range(5))
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as manager:
        client = await join(manager)
        where = {
            "another epoch": {"position": "0-0", "epoch": "another"},
            "trimmed": await since(broker, "0-0"),
            "lost its end": await since(broker, f"{2**62}-0"),
        }[log]
        await publish(broker, *range(5, 10))
        await eventually(lambda: manager.not_ready_reason is None)
        answer = await client.ask("subscribe", topic="room/1", since=where)
        assert answer["recovered"] is False
        assert answer["position"] == (await broker.extent("channel", 0)).last
        await publish(broker, 10)
        await eventually(lambda: client.numbers() == [10])


@pytest.fixture
async def behind(client: Client, broker: FaultyBroker) -> str:
    """The position of a message that this worker's reader has not read, and will not before `heal`."""
    broker.hanging.add("read")
    await publish(broker, 1)  # taken by the read that was under way
    await eventually(lambda: client.manager.feed.follow("room/1")[0].position != "0-0")
    return await publish(broker, 2)


async def test_a_worker_that_is_behind_waits_until_it_knows_what_the_client_has_seen(
    client: Client, broker: FaultyBroker, behind: str
) -> None:
    """The client saw more on another worker: what this one hears next, the client has already."""
    asking = asyncio.create_task(client.ask("subscribe", topic="room/1", since=await since(broker, behind)))
    await publish(broker, 3)
    await eventually(lambda: broker.extents >= 2)
    broker.heal()
    assert (await asking)["recovered"] is True
    await eventually(lambda: client.numbers() == [3])


async def test_a_worker_that_stays_behind_says_that_it_is_unavailable(
    client: Client, broker: FaultyBroker, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "CATCH_UP_SECONDS", 0.02)
    answer = await client.ask("subscribe", topic="room/1", since=await since(broker, behind))
    assert answer["code"] == "unavailable"
    broker.heal()


async def test_resuming_a_live_subscription_does_not_deliver_twice(client: Client, broker: FaultyBroker) -> None:
    position = await publish(broker, 0)
    await client.ask("subscribe", topic="room/1", since=await since(broker, position))
    last = await publish(broker, 1)
    await eventually(lambda: client.numbers() == [1])
    await client.ask("subscribe", topic="room/1", since=await since(broker, last))
    await publish(broker, 2)
    await eventually(lambda: client.numbers()[-1:] == [2])
    assert client.numbers() == [1, 2]


class Slow(FaultyBroker):
    """Publishes something each time that a page is read."""

    def __init__(self) -> None:
        super().__init__()
        self.next = 1_000
        self.pages = 0

    async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
        page = await super().range(channel, shard, after, until, limit=limit)
        self.pages += 1
        for _ in range(3):
            await publish(self, self.next)
            self.next += 1
            await asyncio.sleep(0)
        return page


async def test_what_is_published_while_pages_are_read_comes_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAGE", 10)
    broker = Slow()
    await publish(broker, *range(100))
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as manager:
        client = await join(manager)
        await client.ask("subscribe", topic="room/1", since=await since(broker, "0-0"))
        await eventually(lambda: len(client.numbers()) == 100 + broker.next - 1_000)
        assert client.numbers() == [*range(100), *range(1_000, broker.next)]
        assert broker.pages >= 10


async def test_an_empty_page_does_not_skip_what_came_while_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The position after an empty page was taken when it had arrived: what the reader passed meanwhile was lost."""
    broker = Slow()
    await publish(broker, 1)
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        (reader,) = manager.feed.follow("room/1")
        position = reader.position
        ms = int(position.split("-")[0])
        reader.tail = Tail(position)
        for log in broker._logs.values():
            log.entries.clear()  # deleted one by one: nothing is held, and nothing was trimmed behind the position
            log.added = 0
        client = await join(manager)
        await client.ask("subscribe", topic="room/1", since=await since(broker, f"{ms - 1}-0"))
        await eventually(lambda: len(client.numbers()) == broker.next - 1_000)
        assert client.numbers() == list(range(1_000, broker.next))


@pytest.mark.parametrize("what", ["trimmed", "flushed", "unreachable"])
async def test_a_replay_that_cannot_be_finished_ends_the_connection_with_what_it_got_in_order(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(requests, "PAGE", 10)

    class Failing(FaultyBroker):
        async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
            page = await super().range(channel, shard, after, until, limit=limit)
            if page and page[0].body.endswith(b":20}"):
                if what == "unreachable":
                    raise BrokerError("gone")
                if what == "flushed":
                    manager._tell_of_hole((reader,)[0])
                    reader.epoch = "another"
                for log in self._logs.values() if what == "trimmed" else ():
                    log.entries.clear()
            return page

    broker = Failing()
    await publish(broker, *range(100))
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        (reader,) = manager.feed.follow("room/1")
        raw = RawWire()
        wire = Wire(raw)
        connection = await manager.new_connection(wire.websocket, "c1")
        fields = {"type": "subscribe", "topic": "room/1", "since": await since(broker, "0-0")}
        await manager.receive(connection, fields)
        assert wire.close_codes == [CloseCode.INTERNAL_ERROR]
        got = [message["n"] for message in raw.received if message["type"] == "send"]
        assert got == list(range(len(got)))
        assert len(got) < 100
        assert connection.topics == set()


async def test_a_log_that_is_lost_while_a_client_resumes_is_never_said_to_be_recovered(
    client: Client, broker: FaultyBroker
) -> None:
    """The reader noticed the flush between the check and the replay: the empty new log had "nothing missed" in it."""
    position = await publish(broker, 1, 2, 3)
    (reader,) = client.manager.feed.follow("room/1")
    await eventually(lambda: reader.position == position)
    old = await since(broker, position)
    broker.flush()
    reader._check(await broker.extent("channel", 0))
    answer = await client.ask("subscribe", topic="room/1", since=old)
    assert answer["recovered"] is False
    reader.epoch = old["epoch"]  # and the other way round: the reader has not noticed yet
    answer = await client.ask("subscribe", topic="room/1", since=await since(broker, "0-0"))
    assert answer["recovered"] is False


async def test_a_long_replay_goes_at_the_speed_of_the_client(
    client: Client, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it in one write would end a client as too slow that only wants to catch up."""
    monkeypatch.setattr(requests, "PIECE_BYTES", 1_000)
    position = await publish(broker, 0)
    last = await publish(broker, *range(1, 500))
    (reader,) = client.manager.feed.follow("room/1")
    await eventually(lambda: reader.position == last)
    waits: list[int] = []

    async def drained() -> None:
        waits.append(len(client.raw.writes[-1]))
        if len(waits) == 3:
            await publish(broker, 500)
            await eventually(lambda: reader.position != last)

    monkeypatch.setattr(client.raw, "drained", drained)
    await client.manager.receive(
        client.connection, {"type": "subscribe", "topic": "room/1", "since": await since(broker, position)}
    )
    assert client.numbers() == list(range(1, 501))
    assert len(waits) > 10
    assert max(waits) < 3_000


async def test_private_messages_are_not_replayed_to_who_resumes_everything(
    client: Client, broker: FaultyBroker
) -> None:
    records: Sequence[Record] = [
        Record("", b'{"type":"send_by_conn_id","n":1}', ("somebody",)),
        Record("room/1", b'{"type":"send","n":2}'),
    ]
    await broker.append("channel", 0, records)
    await client.ask("subscribe", topic="#", since=await since(broker, "0-0"))
    await eventually(lambda: client.numbers() == [2])
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as late:  # from the log, not from memory
        newcomer = await join(late)
        await newcomer.ask("subscribe", topic="#", since=await since(broker, "0-0"))
        await eventually(lambda: newcomer.numbers() == [2])
        assert [message["type"] for message in newcomer.raw.received] == ["welcome", "subscribed", "send"]


async def test_a_connection_that_lists_a_topic_by_hand_takes_no_reader_from_others() -> None:
    """Removing it once counted down a reader that it had never counted up: the others' shard went silent."""
    broker = InMemoryBroker(shards=8)
    async with WebSocketManager("channel", broker=broker) as manager:
        listening, other = await join(manager), await join(manager)
        topic = next(f"t{n}" for n in range(99) if broker.shard_of(f"t{n}"))
        await listening.ask("subscribe", topic=topic)
        other.connection.topics.add(topic)
        manager.remove_connection(other.connection)
        manager.submit(Message(topic=topic, data={"n": 1}))
        await eventually(lambda: listening.numbers() == [1])
        subscribe(listening.connection, Message(type="subscribe", topic=topic))


async def test_an_unforeseen_exception_is_the_callers(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Policy):
        def may_publish(self, connection: Connection, topic: str) -> bool:
            raise ZeroDivisionError

    client.manager.policy = Broken()
    with pytest.raises(ZeroDivisionError):
        await client.manager.receive(client.connection, {"type": "send", "topic": "a"})
    assert issubclass(InvalidMessage, WebSocketException)


# Types of the service's own


async def test_a_type_of_ones_own_is_handled_with_its_errors_told(manager: WebSocketManager, client: Client) -> None:
    @manager.on("shout")
    def shout(connection: Connection, message: Message) -> None:
        if not message.get("text"):
            raise InvalidMessage("a shout needs a text")
        connection.write_json({"type": "shouted", "topic": message.topic, "text": message.get("text").upper()})

    @manager.on("whisper")
    async def whisper(connection: Connection, message: Message) -> None:
        shout(connection, message)

    assert await client.ask("shout", text="a") == {"type": "shouted", "topic": None, "text": "A"}
    assert await client.ask("whisper", text="b", topic="room/1") == {"type": "shouted", "topic": "room/1", "text": "B"}
    for kind in ("shout", "whisper"):
        refused = await client.ask(kind, ref=7)
        assert (refused["code"], refused["detail"], refused["ref"]) == ("invalid_message", "a shout needs a text", 7)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"topic": "a/+"}, "invalid_topic"), ({"topic": 5}, "invalid_message"), ({"conn_id": "c1"}, "invalid_message")],
)
async def test_a_type_of_ones_own_obeys_the_rules_of_all(
    manager: WebSocketManager, client: Client, fields: Fields, code: str
) -> None:
    manager.on("shout")(lambda connection, message: connection.write_json({"type": "shouted"}))
    assert (await client.ask("shout", **fields))["code"] == code


async def test_what_the_service_handles_is_not_handled_twice(manager: WebSocketManager) -> None:
    with pytest.raises(ValueError, match="'send' are handled already"):
        manager.on("send")(lambda connection, message: None)


@pytest.mark.parametrize("kind", sorted(SERVER_TYPES))
async def test_what_only_the_server_says_is_no_type_of_ones_own(manager: WebSocketManager, kind: str) -> None:
    with pytest.raises(ValueError, match=f"'{kind}' are the server's own"):
        manager.on(kind)(lambda connection, message: None)


async def test_a_message_of_ones_own_type_without_a_topic_reaches_nobody(
    manager: WebSocketManager, client: Client
) -> None:
    """It reached every connection, and the policy had not been asked whether it may."""
    bystander = await join(manager, "bob")
    manager.on("react")(lambda connection, message: manager.submit(message, connection, message.ref))
    for topic in ({}, {"topic": None}):
        refused = await client.ask("react", ref=7, **topic)
        assert (refused["type"], refused["code"], refused["ref"]) == ("error", "invalid_message", 7)
    assert (await client.ask("react", ref=8, topic="room/1"))["type"] == "ack"
    assert [message["type"] for message in bystander.raw.received] == ["welcome"]


async def test_a_message_of_ones_own_type_reaches_the_subscribers(manager: WebSocketManager, client: Client) -> None:
    manager.on("react")(lambda connection, message: manager.submit(message, connection, message.ref))
    await client.ask("subscribe", topic="room/1")
    await client.ask("react", topic="room/1", emoji="+1", ref=1)
    await eventually(lambda: {"ack", "react"} <= {message["type"] for message in client.raw.received})
    (reaction,) = [message for message in client.raw.received if message["type"] == "react"]
    assert (reaction["topic"], reaction["emoji"], reaction["from"]) == ("room/1", "+1", "alice")
    assert reaction["id"]
