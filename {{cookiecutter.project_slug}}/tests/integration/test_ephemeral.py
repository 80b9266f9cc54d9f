"""Ephemeral messages: for whoever is there now, on all workers, and never in the log."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from distributed_websocket import InMemoryBroker, WebSocketManager
from tests.redis_server import RedisServer
from tests.workers import RAW, Client, connected, working

Pair = tuple[Client, Client]


@pytest.fixture(params=["redis", "memory"])
async def pair(request: pytest.FixtureRequest, redis_server: RedisServer, channel: str) -> AsyncIterator[Pair]:
    """Alice and Bob in one room, on two workers."""
    shared = InMemoryBroker() if request.param == "memory" else None
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for user in ("alice", "bob"):
            manager = WebSocketManager(channel, None if shared else redis_server.url, broker=shared)
            worker = await stack.enter_async_context(working(manager, RAW))
            clients.append(await stack.enter_async_context(connected(worker.url, user)))
        for client in clients:
            await client.subscribe("room/1")
            await client.subscribe("room/0")
        await clients[0].publish("room/0", "heard on both workers")
        for client in clients:
            # With its first message a worker listens; what was said before, beside the log, was for others.
            await client.delivered(1)
            await client.send("unsubscribe", topic="room/0")
            await client.until("unsubscribed")
            client.received.clear()
        alice, bob = clients
        yield alice, bob


async def test_it_reaches_who_is_there_with_the_sender_vouched_for_and_without_an_id(pair: Pair) -> None:
    alice, bob = pair
    await alice.send("send", topic="room/1", data="typing", ephemeral=True, ref=1)
    assert await alice.until("ack") == {"type": "ack", "ref": 1, "id": None}
    (message,) = await bob.delivered(1)
    assert message.pop("at") > 0
    assert message == {
        "type": "send", "topic": "room/1", "data": "typing", "ephemeral": True, "from": "alice", "ref": 1
    }  # fmt: skip


async def test_it_is_neither_in_the_history_nor_in_what_was_missed(pair: Pair) -> None:
    alice, bob = pair
    epoch = (await bob.subscribe("room/2"))["epoch"]
    await bob.send("unsubscribe", topic="room/1")
    await bob.until("unsubscribed")
    left_off = (await alice.publish("room/1", "first"))["id"]
    await alice.send("send", topic="room/1", data="typing", ephemeral=True, ref=1)
    await alice.until("ack")
    last = await alice.publish("room/1", "second")
    fence = await alice.publish("room/2", "so far has Bob's worker heard everything")
    await bob.delivered(1)
    resumed = await bob.subscribe("room/1", since={"position": left_off, "epoch": epoch})
    assert resumed["recovered"] is True
    assert [message["id"] for message in await bob.delivered(2)] == [fence["id"], last["id"]]
    await bob.nothing_more()
    assert len(bob.deliveries()) == 2
    await bob.send("history", topic="room/1")
    assert [message["data"] for message in (await bob.until("history"))["messages"]] == ["first", "second"]


async def test_the_positions_of_the_log_go_on_behind_it(pair: Pair) -> None:
    """What has no place in the log must not move a reader's place in it."""
    alice, bob = pair
    for number in range(3):
        await alice.send("send", topic="room/1", data=number, ephemeral=True)
        await alice.publish("room/1", number)
    kept = [message["data"] for message in await bob.delivered(6) if "id" in message]
    assert kept == [0, 1, 2]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "send", "topic": "room/1", "ephemeral": "yes"},
        {"type": "send", "topic": "room/1", "ephemeral": 1},
        {"type": "subscribe", "topic": "room/1", "ephemeral": True},
    ],
)
async def test_what_is_no_truth_value_or_no_send_is_refused(pair: Pair, message: dict[str, Any]) -> None:
    alice, _ = pair
    await alice.socket.send(json.dumps(message))
    assert (await alice.until("error"))["code"] == "invalid_message"
