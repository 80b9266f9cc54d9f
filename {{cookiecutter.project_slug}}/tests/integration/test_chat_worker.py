"""A real chat worker process, alone: its log is its own memory."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from distributed_websocket.auth import issue_token
from tests.deadline import eventually
from tests.processes import Running, service
from tests.redis_server import free_port

DEADLINE_SECONDS = 10
SECRET = "an-example-secret-of-enough-characters"
SETTINGS = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_WORKER_NAME": "chat-7", "CHAT_MAX_MESSAGE_BYTES": "2000"}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with service("chat", tmp_path_factory.mktemp("worker"), SETTINGS) as running:
        yield running


def authorization(user: str = "alice", lifetime_seconds: float = 60) -> dict[str, str]:
    return {"Authorization": f"Bearer {issue_token(user, secret=SECRET, lifetime_seconds=lifetime_seconds)}"}


async def hear(client: ClientConnection) -> dict[str, Any]:
    """The next message; that people came and went is not looked at."""
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS))
        if message["type"] not in ("joined", "left"):
            return message


async def status_of(url: str, headers: dict[str, str]) -> int:
    with pytest.raises(InvalidStatus) as error:
        async with asyncio.timeout(DEADLINE_SECONDS), connect(url, proxy=None, additional_headers=headers):
            pass
    return error.value.response.status_code


async def test_a_client_is_welcomed_by_name(worker: Running) -> None:
    offered = [Subprotocol("chat.v1")]
    async with connect(worker.ws, proxy=None, additional_headers=authorization(), subprotocols=offered) as client:
        assert client.subprotocol == "chat.v1"
        assert client.protocol.extensions == []  # permessage-deflate, which this client offers, is off
        welcome = await hear(client)
    assert (welcome["worker"], welcome["user"]) == ("chat-7", "alice")
    assert welcome["conn_id"]


async def test_a_message_reaches_the_subscribers_of_its_room(worker: Running) -> None:
    async with (
        connect(worker.ws, proxy=None, additional_headers=authorization("alice")) as alice,
        connect(worker.ws, proxy=None, additional_headers=authorization("bob")) as bob,
    ):
        for client in (alice, bob):
            await hear(client)
            await client.send(json.dumps({"type": "subscribe", "topic": "room/1"}))
            assert (await hear(client))["type"] == "subscribed"
        await alice.send(json.dumps({"type": "send", "topic": "room/1", "data": {"text": "hello"}}))
        for client in (alice, bob):
            message = await hear(client)
            assert (message["data"], message["from"]) == ({"text": "hello"}, "alice")


async def test_a_connection_is_told_when_its_token_expires_and_takes_a_fresh_one(worker: Running) -> None:
    async with connect(worker.ws, proxy=None, additional_headers=authorization(lifetime_seconds=5)) as client:
        assert (await hear(client))["type"] == "welcome"
        assert (await hear(client))["type"] == "token_expired"
        fresh = authorization()["Authorization"].removeprefix("Bearer ")
        await client.send(json.dumps({"type": "authenticate", "token": fresh, "ref": 8}))
        answer = await hear(client)
        assert answer["type"] != "error", answer
        assert answer["ref"] == 8


async def test_the_worker_verifies_the_token_itself(worker: Running) -> None:
    assert await status_of(worker.ws, {}) == 401
    assert await status_of(worker.ws, authorization(lifetime_seconds=-1)) == 401
    assert await status_of(worker.ws, {"Authorization": "Bearer nonsense"}) == 401


async def test_a_worker_takes_no_cookie(worker: Running) -> None:
    """It checks no Origin, so a page of another site must find nothing that the browser sends by itself."""
    value = authorization()["Authorization"].removeprefix("Bearer ")
    assert await status_of(worker.ws, {"Cookie": f"access_token={value}"}) == 401


async def test_a_message_that_is_too_long_closes_the_connection(worker: Running) -> None:
    async with connect(worker.ws, proxy=None, additional_headers=authorization()) as client:
        await hear(client)
        await client.send("x" * 2001)
        with pytest.raises(ConnectionClosed):
            await hear(client)
        assert client.close_code == 1009


async def test_health_and_readiness_are_told(worker: Running) -> None:
    async with httpx.AsyncClient(base_url=worker.http, trust_env=False) as http:
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "worker": "chat-7", "reason": None})


async def test_a_worker_that_does_not_hear_the_log_says_so_and_takes_nobody(tmp_path: Path) -> None:
    settings = {**SETTINGS, "CHAT_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with service("chat", tmp_path, settings, path="/healthz") as worker:
        async with httpx.AsyncClient(base_url=worker.http, trust_env=False, timeout=DEADLINE_SECONDS) as http:
            answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert answer.json()["reason"]
        assert await status_of(worker.ws, authorization()) == 503


async def test_a_worker_that_stops_tells_its_clients_to_come_back(tmp_path: Path) -> None:
    with service("chat", tmp_path, {**SETTINGS, "CHAT_DRAIN_SECONDS": "0.2"}) as worker:
        async with connect(worker.ws, proxy=None, additional_headers=authorization()) as client:
            await hear(client)
            worker.process.send_signal(signal.SIGTERM)
            assert await hear(client) == {"type": "reconnect", "within_seconds": 0.2}
            with pytest.raises(ConnectionClosed):
                await hear(client)
            assert client.close_code == 1012
        assert await asyncio.to_thread(worker.stop) in (0, -signal.SIGTERM)
        assert "Traceback" not in worker.log.read_text("utf-8")


async def test_the_logs_hold_no_tokens_and_no_bodies(worker: Running) -> None:
    headers = authorization()
    async with connect(f"{worker.ws}?token=geheim", proxy=None, additional_headers=headers) as client:
        await hear(client)
        await client.send(json.dumps({"type": "send", "topic": "room/2", "data": "the body of a message", "ref": 1}))
        await hear(client)
        await client.send("malformed body")
        await hear(client)
    await eventually(lambda: "connection ended" in worker.log.read_text("utf-8"))
    log = worker.log.read_text("utf-8")
    for secret in ("geheim", "eyJ", "body", SECRET):
        assert secret not in log
