"""Rooms spread over the shards of the log, and each of them is stored, resumed and published to where it lies."""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import redis.asyncio
from websockets.asyncio.client import connect

from distributed_websocket.auth import issue_token
from tests.processes import Running, service
from tests.redis_server import RedisServer
from tests.workers import Client, Fields

SECRET = "an-example-secret-of-enough-characters"
SERVICE_TOKEN = "a-service-token-of-enough-characters"
SHARDS = 4
ROOMS = [f"room/r{number}" for number in range(12)]


@pytest.fixture
def workers(own_redis: RedisServer, tmp_path: Path) -> Iterator[list[Running]]:
    settings = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_BROKER_URL": own_redis.url, "CHAT_SHARDS": str(SHARDS)}
    with contextlib.ExitStack() as stack:
        names = ("chat-1", "chat-2")
        yield [stack.enter_context(service("chat", tmp_path, settings | {"CHAT_WORKER_NAME": name})) for name in names]


@contextlib.asynccontextmanager
async def client_of(worker: Running, user: str) -> AsyncIterator[Client]:
    token = issue_token(user, secret=SECRET, lifetime_seconds=600)
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(worker.ws, proxy=None, additional_headers=headers) as websocket:
        client = Client(websocket)
        assert (await client.receive())["type"] == "welcome"
        yield client


def after(answer: Fields) -> Fields:
    return {"position": answer["position"], "epoch": answer["epoch"]}


async def topics_by_shard(server: RedisServer) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    async with redis.asyncio.Redis.from_url(server.url) as control:
        async for key in control.scan_iter("*:log"):
            shard = re.fullmatch(r"\{chat:(\d+)/4/2\}:log", key.decode())
            assert shard is not None, key
            entries: Any = await control.xrange(key)
            if topics := {fields[b"t"].decode() for _, fields in entries}:
                found[int(shard[1])] = topics
    return found


async def test_rooms_spread_over_the_shards_and_are_resumed_where_they_lie(
    own_redis: RedisServer, workers: list[Running], tmp_path: Path
) -> None:
    one, other = workers
    gateway_settings = {
        "CHAT_TOKEN_SECRET": SECRET,
        "CHAT_SERVICE_TOKEN": SERVICE_TOKEN,
        "CHAT_REDIS_URL": own_redis.url,
        "CHAT_BROKER_URL": own_redis.url,
        "CHAT_SHARDS": str(SHARDS),
    }
    async with client_of(one, "alice") as alice:
        left = {room: after(await alice.subscribe(room)) for room in ROOMS}
    async with client_of(other, "bob") as bob:
        said = {room: [(await bob.publish(room, number))["id"] for number in range(3)] for room in ROOMS}
    with service("gateway", tmp_path, gateway_settings) as gateway:
        messages = [{"topic": room, "data": 3} for room in ROOMS]
        headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
        async with httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=30, headers=headers) as http:
            answer = await http.post("/api/publish", json={"messages": messages})
    assert answer.status_code == 200
    for room, result in zip(ROOMS, answer.json()["results"], strict=True):
        said[room].append(result["id"])

    by_shard = await topics_by_shard(own_redis)
    assert len(by_shard) > 1
    assert sorted(topic for topics in by_shard.values() for topic in topics) == sorted(ROOMS)

    async with client_of(other, "alice") as alice:  # another worker than before
        for room in ROOMS:
            assert (await alice.subscribe(room, since=left[room]))["recovered"] is True
        await alice.delivered(4 * len(ROOMS))
        await alice.nothing_more()
        for room in ROOMS:
            got = [message for message in alice.deliveries() if message["topic"] == room]
            assert [message["id"] for message in got] == said[room]
            assert [message["data"] for message in got] == [0, 1, 2, 3]
