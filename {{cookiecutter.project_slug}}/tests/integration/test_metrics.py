"""`/metrics` of a real worker and a real gateway: everything that is declared is there, and moves when it should."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from prometheus_client import REGISTRY, Metric
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import distributed_websocket.metrics
from distributed_websocket.auth import issue_token
from distributed_websocket.metrics import count_end
from tests.deadline import eventually
from tests.processes import Running, service
from tests.redis_server import RedisServer, free_port
from tests.service import load

DEADLINE_SECONDS = 10
SECRET = "an-example-secret-of-enough-characters"
PASSWORD = "correct horse battery staple"
WORKER = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_MAX_UNSENT_BYTES": str(2**16)}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with service("chat", tmp_path_factory.mktemp("worker"), WORKER) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(worker: Running, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_REDIS_URL": redis_server.url, "CHAT_WORKERS_URL": worker.ws}
    with service("gateway", tmp_path_factory.mktemp("gateway"), settings) as running:
        yield running


def authorization(user: str = "alice") -> dict[str, str]:
    return {"Authorization": f"Bearer {issue_token(user, secret=SECRET, lifetime_seconds=60)}"}


def enter(process: Running, user: str = "alice") -> connect:
    return connect(process.ws, proxy=None, additional_headers=authorization(user))


async def hear(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS))
    return message


async def ask(client: ClientConnection, **message: Any) -> dict[str, Any]:
    """The answer to a message, with everything before it passed over."""
    await client.send(json.dumps({**message, "ref": "asked"}))
    while (answer := await hear(client)).get("ref") != "asked" or answer["type"] == "send":
        pass
    return answer


class Counted:
    """What a process counts: `now` asks for it again."""

    def __init__(self, process: Running) -> None:
        self._url = process.http + "/metrics"

    async def families(self) -> list[Metric]:
        # verify=False: reading all certificate authorities of this machine takes longer than the question.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=DEADLINE_SECONDS) as http:
            answer = await http.get(self._url)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        return list(text_string_to_metric_families(answer.text))

    async def now(self, sample: str, **labels: str) -> float:
        for family in await self.families():
            for found in family.samples:
                if found.name == sample and found.labels == labels:
                    return found.value
        raise AssertionError(f"{sample} {labels} is not exported")

    async def reaches(self, value: float, sample: str, **labels: str) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.now(sample, **labels) < value:  # noqa: ASYNC110 - another process makes it so
                await asyncio.sleep(0.01)


def declared(prefix: str) -> set[str]:
    """The metrics that the sources declare, as the text format names them. Loading the gateway's declares its own."""
    load("gateway.metrics")
    mine = [metric for metric in REGISTRY.collect() if metric.name.startswith(prefix)]
    return {f"{metric.name}_info" if metric.type == "info" else metric.name for metric in mine}


# All of them


async def test_a_worker_exports_what_is_declared_for_it_and_nothing_of_a_gateway(worker: Running) -> None:
    exported = {family.name for family in await Counted(worker).families()}
    assert declared("ws_") - exported == set()
    assert declared("ws_") >= {"ws_connections", "ws_closed", "ws_probe_age_seconds"}
    assert {name for name in exported if name.startswith("gateway_")} == set()
    assert {"process_open_fds", "process_max_fds", "process_cpu_seconds"} <= exported
    assert await Counted(worker).now("ws_worker_info", worker="chat-1") == 1


async def test_a_gateway_exports_what_is_declared_for_it_and_nothing_of_a_worker(gateway: Running) -> None:
    exported = {family.name for family in await Counted(gateway).families()}
    assert declared("gateway_") - exported == set()
    assert {name for name in exported if name.startswith("ws_")} == set()


@pytest.mark.parametrize("prefix", ["ws_", "gateway_"])
def test_each_metric_says_what_it_is_and_what_to_do(prefix: str) -> None:
    load("gateway.metrics")
    for metric in REGISTRY.collect():
        if metric.name.startswith(prefix):
            assert len(metric.documentation) > 60, metric.name
            assert ". " in metric.documentation or ": " in metric.documentation, metric.name


def test_a_code_of_a_client_is_no_label_of_its_own() -> None:
    """3000 to 4999 are free for applications: a client could make two thousand time series of them."""
    before = _closed("other")
    for code in (3000, 4321, 4999):
        count_end(code)
    assert _closed("other") == before + 3
    assert REGISTRY.get_sample_value("ws_closed_total", {"code": "4321"}) is None


def _closed(code: str) -> float:
    return REGISTRY.get_sample_value("ws_closed_total", {"code": code}) or 0.0


# A worker


async def test_connections_and_their_ends_are_counted(worker: Running) -> None:
    counted = Counted(worker)
    accepted = await counted.now("ws_handshakes_total", result="accepted")
    left = await counted.now("ws_closed_total", code="1000")
    lost = await counted.now("ws_closed_total", code="1006")
    async with enter(worker) as client:
        await hear(client)
        assert await counted.now("ws_connections") == 1
        assert await counted.now("ws_handshakes_total", result="accepted") == accepted + 1
    await counted.reaches(left + 1, "ws_closed_total", code="1000")
    assert await counted.now("ws_connections") == 0
    client = await enter(worker)
    await hear(client)
    client.transport.abort()
    await counted.reaches(lost + 1, "ws_closed_total", code="1006")


async def test_refused_handshakes_are_counted(worker: Running) -> None:
    counted = Counted(worker)
    before = await counted.now("ws_handshakes_total", result="unauthorized")
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        with pytest.raises(InvalidStatus):
            await connect(worker.ws, proxy=None, additional_headers=headers)
    assert await counted.now("ws_handshakes_total", result="unauthorized") == before + 2


async def test_messages_and_deliveries_are_counted(worker: Running) -> None:
    counted = Counted(worker)
    async with enter(worker, "alice") as alice, enter(worker, "bob") as bob:
        for client in (alice, bob):
            await hear(client)
            await ask(client, type="subscribe", topic="room/1")
        received = await counted.now("ws_messages_received_total", type="send")
        delivered = await counted.now("ws_messages_delivered_total")
        batches = await counted.now("ws_batch_messages_count")
        fan_outs = await counted.now("ws_fan_out_seconds_count")
        published = await counted.now("ws_publish_seconds_count")
        for number in range(5):
            await ask(alice, type="send", topic="room/1", data=number)
        await counted.reaches(delivered + 10, "ws_messages_delivered_total")
        assert await counted.now("ws_messages_received_total", type="send") == received + 5
        assert batches < await counted.now("ws_batch_messages_count")
        assert fan_outs < await counted.now("ws_fan_out_seconds_count")
        assert published + 5 <= await counted.now("ws_publish_seconds_count")
        assert await counted.now("ws_presence") == 2
        assert 0 < abs(await counted.now("ws_log_lag_seconds")) < 60


async def test_errors_and_limits_are_counted(worker: Running) -> None:
    counted = Counted(worker)
    errors = await counted.now("ws_messages_refused_total", code="unknown_type")
    limited = await counted.now("ws_limits_hit_total", limit="messages_per_second")
    many = await counted.now("ws_limits_hit_total", limit="subscriptions")
    async with enter(worker) as client:
        await hear(client)
        assert (await ask(client, type="nonsense"))["code"] == "unknown_type"
        assert await counted.now("ws_messages_refused_total", code="unknown_type") == errors + 1
        for _ in range(500):  # a hundred at once and fifty a second: too many for the slowest machine
            await client.send(json.dumps({"type": "nonsense"}))
        codes = [(await hear(client))["code"] for _ in range(500)]
        assert set(codes) == {"unknown_type", "rate_limited"}
        hits = await counted.now("ws_limits_hit_total", limit="messages_per_second")
        assert hits == limited + codes.count("rate_limited")
    async with enter(worker) as client:
        await hear(client)
        for number in range(99):
            assert (await ask(client, type="subscribe", topic=f"room/{number}"))["type"] == "subscribed"
        await asyncio.sleep(0.5)  # long enough for two more in the bucket, which gets fifty a second
        answers = [await ask(client, type="subscribe", topic=f"room/more-{number}") for number in range(2)]
        assert [answer.get("code") for answer in answers] == [None, "too_many_subscriptions"]
    assert await counted.now("ws_limits_hit_total", limit="subscriptions") == many + 1


async def test_recoveries_are_counted(worker: Running) -> None:
    counted = Counted(worker)
    async with enter(worker) as client:
        await hear(client)
        place = await ask(client, type="subscribe", topic="room/9")
        since = {"position": place["position"], "epoch": place["epoch"]}
        for result, asked in (("recovered", since), ("lost", {**since, "epoch": "of another life"})):
            before = await counted.now("ws_recoveries_total", result=result)
            await ask(client, type="subscribe", topic="room/9", since=asked)
            assert await counted.now("ws_recoveries_total", result=result) == before + 1


async def test_a_client_that_does_not_read_is_seen_and_its_end_is_counted(worker: Running) -> None:
    counted = Counted(worker)
    slow = await counted.now("ws_closed_total", code="4001")
    limit = await counted.now("ws_limits_hit_total", limit="unsent_bytes")
    host = socket.socket()
    host.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host.connect(("127.0.0.1", worker.port))
    try:
        token = authorization("sloth")["Authorization"]
        host.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: " + token.encode() + b"\r\n\r\n"
        )
        assert (await asyncio.to_thread(host.recv, 4096)).startswith(b"HTTP/1.1 101")
        text = b'{"type":"subscribe","topic":"room/loud"}'
        host.sendall(b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text)
        async with enter(worker) as client:
            await hear(client)
            seen = 0.0
            for number in range(2000):
                await ask(client, type="send", topic="room/loud", data=[number, "x" * 60_000])
                seen = max(seen, await counted.now("ws_unsent_bytes"))
                if await counted.now("ws_closed_total", code="4001") > slow:
                    break
                await asyncio.sleep(0.02)  # no faster than the worker takes them: fifty messages a second
        assert seen > 0
        assert await counted.now("ws_limits_hit_total", limit="unsent_bytes") == limit + 1
    finally:
        host.close()


async def test_a_drain_is_counted_as_what_it_is(tmp_path: Path) -> None:
    settings = {**WORKER, "CHAT_DRAIN_SECONDS": "4"}  # of which half are left when the first client is gone
    with service("chat", tmp_path, settings) as worker:
        counted = Counted(worker)
        async with enter(worker, "first") as first, enter(worker, "second") as second:
            for client in (first, second):
                await hear(client)
            stopping = asyncio.create_task(asyncio.to_thread(worker.stop))
            assert (await hear(first))["type"] == "reconnect"
            with pytest.raises(ConnectionClosed):
                await hear(first)
            assert await counted.now("ws_closed_total", code="1012") >= 1
            assert await counted.now("ws_ready") == 0
        await stopping


async def test_a_worker_that_does_not_hear_the_log_says_so(own_redis: RedisServer, tmp_path: Path) -> None:
    with service("chat", tmp_path, {**WORKER, "CHAT_BROKER_URL": own_redis.url}) as worker:
        counted = Counted(worker)
        assert await counted.now("ws_ready") == 1
        assert await counted.now("ws_probe_age_seconds") < 10
        async with enter(worker) as client:
            await hear(client)
            own_redis.kill()
            await client.send(json.dumps({"type": "send", "topic": "room/1", "data": "x"}))
            await counted.reaches(1, "ws_reader_failures_total")
            await counted.reaches(1, "ws_append_failures_total")
            assert await counted.now("ws_ready") == 0
            age = await counted.now("ws_probe_age_seconds")
            await counted.reaches(age + 0.1, "ws_probe_age_seconds")
            before = await counted.now("ws_handshakes_total", result="not_ready")
            with pytest.raises(InvalidStatus):
                await enter(worker)
            assert await counted.now("ws_handshakes_total", result="not_ready") == before + 1


# A gateway


async def test_tunnels_and_their_handshakes_are_counted(gateway: Running) -> None:
    counted = Counted(gateway)
    accepted = await counted.now("gateway_handshakes_total", result="accepted")
    async with enter(gateway) as client:
        await hear(client)
        assert await counted.now("gateway_tunnels") == 1
        assert await counted.now("gateway_handshakes_total", result="accepted") == accepted + 1
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await counted.now("gateway_tunnels"):  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.01)


async def test_handshakes_that_a_gateway_refuses_are_counted(gateway: Running) -> None:
    counted = Counted(gateway)
    for result, headers in (
        ("unauthorized", {}),
        ("forbidden", {**authorization(), "Origin": "https://evil.example"}),
    ):
        before = await counted.now("gateway_handshakes_total", result=result)
        with pytest.raises(InvalidStatus):
            await connect(gateway.ws, proxy=None, additional_headers=headers)
        assert await counted.now("gateway_handshakes_total", result=result) == before + 1


async def test_workers_that_cannot_be_reached_are_counted(redis_server: RedisServer, tmp_path: Path) -> None:
    deaf = socket.create_server(("127.0.0.1", 0))
    nobody = f"ws://127.0.0.1:{free_port()}/ws"
    silent = f"ws://127.0.0.1:{deaf.getsockname()[1]}/ws"
    try:
        # Only who waits for the end of the time gets a short one: to learn that nobody is there may take a while.
        for result, url, seconds in (("unreachable", nobody, "10"), ("timed_out", silent, "0.2")):
            settings = {
                "CHAT_TOKEN_SECRET": SECRET,
                "CHAT_REDIS_URL": redis_server.url,
                "CHAT_WORKERS_URL": url,
                "CHAT_CONNECT_TIMEOUT_SECONDS": seconds,
            }
            with service("gateway", tmp_path, settings) as gateway:
                with pytest.raises(InvalidStatus):
                    await enter(gateway)
                assert await Counted(gateway).now("gateway_handshakes_total", result=result) == 1
    finally:
        deaf.close()


async def test_a_worker_that_says_no_is_counted(gateway: Running, worker: Running) -> None:
    """Twenty connections of a user are taken; the next one gets the worker's 429."""
    counted = Counted(gateway)
    before = await counted.now("gateway_handshakes_total", result="refused")
    full = await Counted(worker).now("ws_handshakes_total", result="user_full")
    clients = [await enter(gateway, "many") for _ in range(20)]
    try:
        with pytest.raises(InvalidStatus):
            await enter(gateway, "many")
    finally:
        for client in clients:
            await client.close()
    assert await counted.now("gateway_handshakes_total", result="refused") == before + 1
    assert await Counted(worker).now("ws_handshakes_total", result="user_full") == full + 1
    assert await Counted(worker).now("ws_limits_hit_total", limit="connections_per_user") == full + 1


async def test_logins_and_sign_ups_are_counted(gateway: Running) -> None:
    counted = Counted(gateway)
    names = [("gateway_sign_ups_total", "created"), ("gateway_sign_ups_total", "taken")]
    names += [("gateway_logins_total", "ok"), ("gateway_logins_total", "wrong")]
    before = [await counted.now(name, result=result) for name, result in names]
    async with httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=DEADLINE_SECONDS) as http:
        for _ in range(2):
            await http.post("/api/users", json={"username": "counted", "password": PASSWORD})
        for password in (PASSWORD, "something else"):
            await http.post("/api/token", data={"username": "counted", "password": password})
    assert [await counted.now(name, result=result) for name, result in names] == [count + 1 for count in before]
    assert await counted.now("gateway_passwords_pending") == 0


async def test_a_user_store_that_is_gone_is_counted(own_redis: RedisServer, worker: Running, tmp_path: Path) -> None:
    settings = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_REDIS_URL": own_redis.url, "CHAT_WORKERS_URL": worker.ws}
    with service("gateway", tmp_path, settings) as gateway:
        own_redis.kill()
        async with httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=DEADLINE_SECONDS) as http:
            assert (await http.post("/api/token", data={"username": "a", "password": PASSWORD})).status_code == 503
        assert await Counted(gateway).now("gateway_user_store_failures_total") == 1


# Its place


async def test_what_is_watched_is_let_go() -> None:
    from distributed_websocket import WebSocketManager

    watched = distributed_websocket.metrics._WATCHED
    async with WebSocketManager("test", "memory://") as manager:
        assert manager in watched
        await eventually(lambda: manager.not_ready_reason is None)
        assert REGISTRY.get_sample_value("ws_ready") == 1
    assert manager not in watched
