"""Three workers, one Redis, real sockets: the promise of the service, on both WebSocket protocols."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from distributed_websocket import Policy, WebSocketManager
from tests.deadline import eventually
from tests.redis_server import RedisServer
from tests.workers import PROTOCOLS, Worker, connected, ids, working

Start = Callable[..., Awaitable[Worker]]


@pytest.fixture(params=PROTOCOLS, ids=["asgi", "raw"])
def protocol(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def start(protocol: str, redis_server: RedisServer, channel: str) -> AsyncIterator[Start]:
    """Start one more worker on the same log."""
    async with contextlib.AsyncExitStack() as stack:

        async def start_one(**options: object) -> Worker:
            manager = WebSocketManager(channel, broker_url=redis_server.url, **options)  # type: ignore[arg-type]
            return await stack.enter_async_context(working(manager, protocol))

        yield start_one


async def test_a_message_reaches_the_subscribers_of_every_worker_once(start: Start) -> None:
    workers = await asyncio.gather(*(start() for _ in range(3)))
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(worker.url, f"user-{n}")) for n, worker in enumerate(workers)
        ]
        for client in clients:
            await client.subscribe("room/1")
        ack = await clients[0].publish("room/1", "hello")
        for client in clients:
            (message,) = await client.delivered(1)
            assert message == {
                "id": ack["id"],
                "type": "send",
                "topic": "room/1",
                "data": "hello",
                "ref": ack["ref"],
                "from": "user-0",
                "at": message["at"],
            }
        await clients[1].publish("room/1", "again")
        for client in clients:
            assert [message["data"] for message in await client.delivered(2)] == ["hello", "again"]


async def test_everybody_sees_the_same_order_whoever_sends(start: Start) -> None:
    workers = await asyncio.gather(*(start() for _ in range(2)))
    async with connected(workers[0].url) as one, connected(workers[1].url) as other:
        await one.subscribe("room/#")
        await other.subscribe("room/#")
        for number in range(50):
            for client, name in ((one, "one"), (other, "other")):
                await client.send("send", topic=f"room/{number % 3}", data=[name, number])
        seen_by_one, seen_by_other = await one.delivered(100), await other.delivered(100)
        assert seen_by_one == seen_by_other
        assert ids(seen_by_one) == sorted(set(ids(seen_by_one)))
        for name in ("one", "other"):
            assert [m["data"][1] for m in seen_by_one if m["data"][0] == name] == list(range(50))


async def test_who_comes_back_on_another_worker_gets_what_was_missed_and_then_what_is_new(start: Start) -> None:
    first, second = await asyncio.gather(start(), start())
    async with connected(first.url) as sender:
        async with connected(first.url) as client:
            subscribed = await client.subscribe("room/1")
            await sender.publish("room/1", 0)
            (seen,) = await client.delivered(1)
        for number in range(1, 4):
            await sender.publish("room/1", number)
        async with connected(second.url) as client:
            answer = await client.subscribe("room/1", since={"position": seen["id"], "epoch": subscribed["epoch"]})
            assert answer["recovered"] is True
            await sender.publish("room/1", 4)
            await sender.publish("room/1", 5)
            messages = await client.delivered(5)
            assert [message["data"] for message in messages] == [1, 2, 3, 4, 5]


async def test_a_repeated_send_is_stored_once_and_acknowledged_twice(start: Start) -> None:
    worker = await start()
    async with connected(worker.url, "alice") as client:
        await client.subscribe("room/1")
        for _ in range(2):
            await client.send("send", topic="room/1", data="once", ref="same")
        acks = [await client.until("ack"), await client.until("ack")]
        assert acks[0] == acks[1]
        await client.publish("room/1", "after it")
        assert [message["data"] for message in await client.delivered(2)] == ["once", "after it"]


async def test_after_unsubscribing_nothing_comes(start: Start) -> None:
    worker = await start()
    async with connected(worker.url) as client:
        await client.subscribe("room/1")
        await client.subscribe("room/2")
        await client.send("unsubscribe", topic="room/1", ref=7)
        assert await client.until("unsubscribed") == {"type": "unsubscribed", "topic": "room/1", "ref": 7}
        await client.publish("room/1", "unheard")
        await client.publish("room/2", "heard")
        assert [message["data"] for message in await client.delivered(1)] == ["heard"]


async def test_overlapping_patterns_deliver_once(start: Start) -> None:
    worker = await start()
    async with connected(worker.url) as client:
        for pattern in ("room/1", "room/+", "#"):
            await client.subscribe(pattern)
        await client.publish("room/1", "once")
        await client.publish("room/1", "after it")
        assert [message["data"] for message in await client.delivered(2)] == ["once", "after it"]


class Open(Policy):
    """Everybody may address everybody."""

    def may_broadcast(self, connection: object) -> bool:
        return True

    def may_address(self, connection: object, conn_ids: tuple[str, ...]) -> bool:
        return True


async def test_what_goes_to_everybody_and_to_one_crosses_workers_where_the_policy_allows_it(start: Start) -> None:
    first, second = await asyncio.gather(start(policy=Open()), start(policy=Open()))
    async with connected(first.url) as sender, connected(second.url) as far, connected(second.url) as bystander:
        await sender.send("broadcast", data="all", ref=1)
        await sender.until("ack")
        for client in (sender, far, bystander):
            while not any(m["type"] == "broadcast" and m["data"] == "all" for m in client.received):
                await client.receive()
        await sender.send("send_by_conn_id", conn_id=far.received[0]["conn_id"], data="you", ref=2)
        assert (await far.until("send_by_conn_id"))["data"] == "you"
        await bystander.nothing_more()
        assert not [m for m in bystander.received if m["type"] == "send_by_conn_id"]


async def test_clients_may_not_broadcast_or_address_by_default(start: Start) -> None:
    worker = await start()
    async with connected(worker.url) as client:
        for kind, fields in (
            ("broadcast", {}),
            ("send_by_conn_id", {"conn_id": "x"}),
            ("send", {"topic": "$internal"}),
        ):
            await client.send(kind, ref=kind, **fields)
            error = await client.until("error")
            assert (error["code"], error["ref"]) == ("not_allowed", kind)


async def test_a_send_cannot_be_aimed_at_a_connection_by_a_conn_id_beside_its_topic(start: Start) -> None:
    """`conn_id` in a plain `send` once went around `may_address`: the message reached the connection it named."""
    worker = await start()
    async with connected(worker.url) as attacker, connected(worker.url) as victim:
        await attacker.send("send", topic="room/1", conn_id=victim.received[0]["conn_id"], data="boo", ref=1)
        assert (await attacker.until("error"))["code"] == "invalid_message"
        await victim.nothing_more()
        assert victim.deliveries() == []


HOSTILE = [
    "not json",
    "[1,2]",
    '"text"',
    "null",
    "{}",
    '{"type":1}',
    '{"type":"__init__"}',
    '{"type":"shutdown"}',
    '{"type":"subscribe"}',
    '{"type":"subscribe","topic":5}',
    '{"type":"subscribe","topic":"a/#/b"}',
    '{"type":"subscribe","topic":"' + "x" * 10_000 + '"}',
    '{"type":"subscribe","topic":"a","since":5}',
    '{"type":"subscribe","topic":"a","since":{"position":"x","epoch":"y"}}',
    '{"type":"send","topic":"a/+"}',
    '{"type":"send","topic":"a","conn_id":5}',
    '{"type":"send","topic":"a","conn_id":{"x":1}}',
    '{"type":"broadcast","conn_id":5}',
    '{"type":"send","topic":"a","ref":{"deep":[]}}',
    '{"type":"send","topic":"a","data":"\\ud800"}',
    '{"type":"send","topic":"a","data":' + "[" * 500 + "]" * 500 + "}",
    '{"type":"send","topic":"a","data":' + "[" * 5000 + "]" * 5000 + "}",
    '{"type":"history","topic":"a","limit":"many"}',
    '{"type":"history","topic":"a","before":"yesterday"}',
    '{"type":"authenticate","token":5}',
    b"\x00\x01",
]


@pytest.mark.parametrize("frame", HOSTILE, ids=lambda frame: str(frame)[:40])
async def test_a_malformed_frame_gets_an_error_and_the_neighbour_misses_nothing(
    start: Start, frame: str | bytes
) -> None:
    worker = await start()
    async with connected(worker.url) as hostile, connected(worker.url) as neighbour:
        await neighbour.subscribe("room/1")
        await hostile.socket.send(frame)
        assert (await hostile.receive())["type"] == "error"
        await hostile.publish("room/1", "still here")
        (message,) = await neighbour.delivered(1)
        assert message["data"] == "still here"


async def test_a_connection_that_goes_leaves_nothing_behind(start: Start) -> None:
    worker = await start()
    async with connected(worker.url, "alice") as client:
        await client.subscribe("room/1")
        await client.subscribe("room/#")
        assert len(worker.manager) == 1
    await eventually(lambda: not worker.sockets())
    await eventually(lambda: len(worker.manager) == 0)
    assert len(worker.manager.index) == 0
