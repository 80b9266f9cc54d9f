"""What a worker writes down of a connection: one line, with everything but what was said."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from distributed_websocket.auth import issue_token
from tests.deadline import eventually
from tests.processes import Running, service

DEADLINE_SECONDS = 10
SECRET = "an-example-secret-of-enough-characters"
SETTINGS = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_WORKER_NAME": "chat-7", "CHAT_LOG_FORMAT": "json"}
TOKEN = issue_token("alice", secret=SECRET, lifetime_seconds=3600)


def enter(worker: Running) -> connect:
    return connect(worker.ws, proxy=None, additional_headers={"Authorization": f"Bearer {TOKEN}"})


async def hear(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS))
    return message


def ends(worker: Running) -> list[dict[str, Any]]:
    """The lines about connections that ended."""
    written, _, _half_a_line = worker.log.read_text("utf-8").rpartition("\n")
    lines = [json.loads(line) for line in written.splitlines()]
    return [line for line in lines if line["event"] == "connection ended"]


async def test_a_connection_leaves_one_line_without_what_was_said(tmp_path: Path) -> None:
    with service("chat", tmp_path, SETTINGS) as worker:
        async with enter(worker) as client:
            conn_id = (await hear(client))["conn_id"]
            await client.send('{"type":"subscribe","topic":"room/tea"}')
            assert (await hear(client))["type"] == "subscribed"
            await client.send('{"type":"send","topic":"room/tea","data":"a-secret-of-theirs"}')
            while (await hear(client))["type"] != "send":
                pass
        await eventually(lambda: ends(worker))
        (line,) = ends(worker)
        log = worker.log.read_text("utf-8")
    told = {name: line[name] for name in ("conn_id", "user", "worker", "code", "received", "topics", "level")}
    assert told == {
        "conn_id": conn_id,
        "user": "alice",
        "worker": "chat-7",
        "code": 1000,
        "received": 2,
        "topics": 1,
        "level": "info",
    }
    assert line["sent"] >= 3  # welcome, subscribed, the message
    assert 0 <= line["seconds"] < 60
    assert [other for other in log.splitlines() if conn_id in other] == [json.dumps(line)]
    for secret in ("a-secret-of-theirs", TOKEN, "[accepted]"):
        assert secret not in log


async def test_a_lost_connection_and_a_drained_one_are_told_apart(tmp_path: Path) -> None:
    with service("chat", tmp_path, {**SETTINGS, "CHAT_DRAIN_SECONDS": "0"}) as worker:
        lost = await enter(worker)
        await hear(lost)
        lost.transport.abort()
        await eventually(lambda: ends(worker))
        async with enter(worker) as drained:
            await hear(drained)
            await asyncio.to_thread(worker.stop)
            assert (await hear(drained))["type"] == "reconnect"
            with pytest.raises(ConnectionClosed):
                await hear(drained)
        assert [line["code"] for line in ends(worker)] == [1006, 1012]
