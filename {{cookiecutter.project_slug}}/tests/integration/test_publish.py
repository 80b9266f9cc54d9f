"""`POST /api/publish` at a real gateway: what a service says reaches the subscribers of a real worker, once."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from redis import Redis
from websockets.asyncio.client import ClientConnection, connect

from distributed_websocket.auth import issue_token
from tests.processes import Running, service
from tests.redis_server import RedisServer

DEADLINE_SECONDS = 10
SECRET = "an-example-secret-of-enough-characters"
SERVICE_TOKEN = "a-service-token-of-enough-characters"
TOKEN = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_SERVICE_TOKEN": SERVICE_TOKEN}


def gateway_settings(redis_url: str, **more: str) -> dict[str, str]:
    return {**TOKEN, "CHAT_REDIS_URL": redis_url, "CHAT_BROKER_URL": redis_url, **more}


@pytest.fixture(scope="module")
def worker(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_BROKER_URL": redis_server.url}
    with service("chat", tmp_path_factory.mktemp("worker"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = gateway_settings(redis_server.url, CHAT_MAX_MESSAGE_BYTES="2000")
    with service("gateway", tmp_path_factory.mktemp("gateway"), settings) as running:
        yield running


def http_of(gateway: Running, token: str | None = SERVICE_TOKEN) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    return httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=30, headers=headers)


@pytest.fixture
async def http(gateway: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with http_of(gateway) as client:
        yield client


@pytest.fixture
def topic(channel: str) -> str:
    return f"room/{channel}"


@pytest.fixture
async def listener(worker: Running, topic: str) -> AsyncIterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {issue_token('alice', secret=SECRET, lifetime_seconds=60)}"}
    async with connect(worker.ws, proxy=None, additional_headers=headers) as client:
        await client.send(json.dumps({"type": "subscribe", "topic": topic}))
        await heard(client, "subscribed")
        yield client


async def heard(client: ClientConnection, kind: str = "send") -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS))
        if message["type"] == kind:
            return message


async def publish(http: httpx.AsyncClient, *messages: Any, **headers: str) -> httpx.Response:
    return await http.post("/api/publish", json={"messages": messages}, headers=headers)


async def test_a_batch_is_stored_and_heard_in_its_order(
    http: httpx.AsyncClient, listener: ClientConnection, topic: str
) -> None:
    answer = await publish(http, *({"topic": topic, "data": {"n": n}} for n in range(100)))
    assert answer.status_code == 200
    results = answer.json()["results"]
    got = [await heard(listener) for _ in range(100)]
    assert [message["id"] for message in got] == [result["id"] for result in results]
    assert [message["data"] for message in got] == [{"n": n} for n in range(100)]
    assert {result["error"] for result in results} == {None}
    first = got[0]
    assert first.pop("at") > 0
    assert first == {"id": results[0]["id"], "type": "send", "topic": topic, "data": {"n": 0}}


async def test_topics_of_several_shards_go_in_one_request(http: httpx.AsyncClient, channel: str) -> None:
    answer = await publish(http, *({"topic": f"{channel}{n}"} for n in range(20)))
    assert all(result["id"] for result in answer.json()["results"])


@pytest.mark.parametrize("how", ["key", "header"])
async def test_a_repeated_request_is_stored_once(
    http: httpx.AsyncClient, listener: ClientConnection, topic: str, how: str
) -> None:
    key = {"key": topic} if how == "key" else {}
    headers = {"Idempotency-Key": topic} if how == "header" else {}
    messages = [{"topic": topic, "data": 1, **key}]
    messages.append({"topic": topic, "data": 2, **({"key": topic + "2"} if key else {})})
    first = await publish(http, *messages, **headers)
    again = await publish(http, *messages, **headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    other = await publish(http, {"topic": topic, "data": 3})
    got = [await heard(listener) for _ in range(3)]
    assert [message["data"] for message in got] == [1, 2, 3]
    assert got[-1]["id"] == other.json()["results"][0]["id"]


async def test_the_same_key_on_another_topic_is_another_message(http: httpx.AsyncClient, topic: str) -> None:
    answer = await publish(http, {"topic": topic, "key": "k"}, {"topic": topic + "/b", "key": "k"})
    one, other = answer.json()["results"]
    assert one["id"] != other["id"]


@pytest.mark.parametrize(
    "token", [None, "wrong", SERVICE_TOKEN + "x", issue_token("alice", secret=SECRET, lifetime_seconds=60)]
)
async def test_who_has_not_the_service_token_publishes_nothing(gateway: Running, token: str | None) -> None:
    async with http_of(gateway, token) as client:
        answer = await publish(client, {"topic": "room/1"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_who_has_not_the_token_gets_the_answer_also_to_a_body_that_nobody_reads(gateway: Running) -> None:
    async with http_of(gateway, "wrong") as client:
        for _ in range(3):  # over one connection, which stays in step
            answer = await client.post("/api/publish", content=b"x" * 2**20)
            assert answer.status_code == 401
        client.headers["Authorization"] = f"Bearer {SERVICE_TOKEN}"
        assert (await publish(client, {"topic": "room/1"})).status_code == 200


@pytest.mark.parametrize(
    ("messages", "status", "why"),
    [
        ([], 422, "at least 1"),
        ([{"topic": "room/1"}] * 101, 422, "at most 100"),
        ([{"topic": "room/#"}], 422, "may stand only in patterns"),
        ([{"topic": ""}], 422, "topic"),
        ([{"topic": "x" * 256}], 422, "topic"),
        ([{"topic": "$probe"}], 422, "belong to the server"),
        ([{"data": 1}], 422, "required"),
        ([{"topic": "room/1", "key": ""}], 422, "at least 1"),
        ([{"topic": "room/1", "key": "k" * 129}], 422, "at most 128"),
        ([{"topic": "room/1", "data": 2**70}], 422, "cannot be passed on"),
        ([{"topic": "room/1"}, {"topic": "room/1", "data": "x" * 2000}], 413, "message 2 is longer than 2000 bytes"),
        ([{"topic": "room/1", "data": "x" * 2**20}], 413, "at most 1048576 bytes"),
    ],
    ids=range(12),
)  # fmt: skip
async def test_a_batch_with_one_bad_message_is_refused_whole(
    http: httpx.AsyncClient, listener: ClientConnection, topic: str, messages: list[Any], status: int, why: str
) -> None:
    answer = await publish(http, {"topic": topic, "data": "no"}, *messages) if messages else await publish(http)
    assert (answer.status_code, why in answer.text) == (status, True), answer.text[:500]
    await publish(http, {"topic": topic, "data": "yes"})
    assert (await heard(listener))["data"] == "yes"


async def test_half_a_character_is_no_fault_of_the_server(http: httpx.AsyncClient, topic: str) -> None:
    async def post(message: str) -> int:
        content = f'{{"messages":[{{"topic":"{topic}",{message}}}]}}'
        headers = {"Content-Type": "application/json"}
        return (await http.post("/api/publish", content=content, headers=headers)).status_code

    assert await post(r'"key":"\ud800"') in (200, 422)
    assert await post(r'"data":"\ud800"') == 422


async def test_other_requests_keep_their_shorter_limit(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/users", json={"username": "x" * 20_000, "password": "y"})
    assert answer.status_code == 413


def test_without_a_service_token_there_is_no_such_path(redis_server: RedisServer, tmp_path: Path) -> None:
    settings = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_REDIS_URL": redis_server.url}
    with service("gateway", tmp_path, settings) as gateway:
        answer = httpx.post(f"{gateway.http}/api/publish", json={}, trust_env=False, timeout=30)
        assert answer.status_code in (404, 405)


def test_while_redis_does_not_answer_the_service_is_told_and_the_repetition_is_stored_once(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    with service("gateway", tmp_path, gateway_settings(own_redis.url)) as gateway:
        own_redis.stop()
        headers = {"Authorization": f"Bearer {SERVICE_TOKEN}", "Idempotency-Key": "k"}
        body = {"messages": [{"topic": "room/1", "data": 1}]}

        def post() -> httpx.Response:
            return httpx.post(f"{gateway.http}/api/publish", json=body, headers=headers, trust_env=False, timeout=40)

        failed = post()
        assert failed.status_code == 503
        assert failed.headers["retry-after"] == "1"
        assert failed.json() == {"results": [{"id": None, "error": "unavailable"}]}
        own_redis.start()
        first, again = post(), post()
        assert first.status_code == 200
        assert first.json() == again.json()


def test_it_publishes_to_the_log_that_the_workers_have(
    redis_server: RedisServer, own_redis: RedisServer, tmp_path: Path
) -> None:
    """Not to the Redis of the users, where they are not the same."""
    more = {"CHAT_BROKER_URL": redis_server.url, "CHAT_SHARDS": "1"}
    with service("gateway", tmp_path, gateway_settings(own_redis.url, **more)) as gateway:
        headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
        body = {"messages": [{"topic": "room/1"}]}
        answer = httpx.post(f"{gateway.http}/api/publish", json=body, headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == 200
    with Redis.from_url(redis_server.url) as control:
        ((position, _),) = control.xrevrange("{chat:0/1/2}:log", count=1)
    assert position.decode() == answer.json()["results"][0]["id"]


@pytest.mark.parametrize(("url", "status"), [("memory://", 503), ("redis+pubsub", 200)], ids=["memory", "pubsub"])
def test_without_a_log_there_are_no_ids(redis_server: RedisServer, tmp_path: Path, url: str, status: int) -> None:
    url = redis_server.url.replace("redis", url) if url == "redis+pubsub" else url
    with service("gateway", tmp_path, gateway_settings(redis_server.url, CHAT_BROKER_URL=url)) as gateway:
        headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
        body = {"messages": [{"topic": "room/1"}]}
        answer = httpx.post(f"{gateway.http}/api/publish", json=body, headers=headers, trust_env=False, timeout=30)
        assert answer.status_code == status
        if status == 200:
            assert answer.json() == {"results": [{"id": None, "error": None}]}


def test_what_was_published_is_counted(http: httpx.AsyncClient, gateway: Running) -> None:
    counted = httpx.get(f"{gateway.http}/metrics", trust_env=False, timeout=30).text
    assert 'gateway_published_total{result="stored"}' in counted
