"""Every message that a real server and its clients exchange is one of the AsyncAPI document's, both ways.

The document is fetched from the service, as a stranger would; one conversation says everything that can be said.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
import orjson
import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect

from distributed_websocket import (
    BrokerInterface,
    CloseCode,
    Connection,
    ErrorCode,
    InMemoryBroker,
    Limits,
    Message,
    Policy,
    WebSocketManager,
    presence,
)
from distributed_websocket.asyncapi import add_asyncapi
from distributed_websocket.auth import TokenVerifier, issue_token
from tests.asyncapi_schemas import Schemas
from tests.deadline import eventually
from tests.workers import ASGI, PROTOCOLS, Client, Fields, serving

SECRET = "an-example-secret-of-enough-characters"
UNREADABLE = {ErrorCode.MALFORMED_JSON, ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_TYPE, ErrorCode.INVALID_TOPIC}


class Open(Policy):
    """Everything is allowed but the topic `secret`."""

    def may_subscribe(self, connection: Connection, pattern: str) -> bool:
        return pattern != "secret"

    def may_broadcast(self, connection: Connection) -> bool:
        return True

    def may_address(self, connection: Connection, conn_ids: tuple[str, ...]) -> bool:
        return True

    def shows_presence(self, topic: str) -> bool:
        return topic == "room/1"


class QueueBroker(BrokerInterface):
    """A broker of the user's own: six coroutines, no log."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def subscribe(self, channel: str) -> None: ...

    async def unsubscribe(self, channel: str) -> None: ...

    async def publish(self, channel: str, message: Any) -> None:
        fields = orjson.loads(message)
        names = {name: fields.pop(name, None) for name in ("type", "topic", "conn_id")}
        self._messages.append(Message(data=fields, **names))

    async def get_message(self, **kwargs: Any) -> Message | None:
        return self._messages.popleft() if self._messages else None


@dataclass
class Speaker(Client):
    """A client that keeps what it said too."""

    sent: list[Any] = field(default_factory=list)

    async def say(self, message: Any) -> None:
        self.sent.append(message)
        await self.socket.send(orjson.dumps(message).decode())

    async def send(self, kind: str, **fields: Any) -> None:
        await self.say({"type": kind, **fields})

    async def ask(self, kind: str, **fields: Any) -> Fields:
        """Send a request and return what answers it, by its `ref`."""
        ref = len(self.sent)
        await self.send(kind, **fields, ref=ref)
        while (answer := await self.receive()).get("ref") != ref or answer["type"] == kind == "send":
            pass
        return answer

    async def hears(self, kind: str) -> None:
        """Return when a message of a type came, however long ago."""
        while all(message["type"] != kind for message in self.received):
            await self.receive()

    async def refused(self, code: ErrorCode, message: Any) -> None:
        """Send what is no good and see the error."""
        await self.say(message)
        error = await self.until("error")
        assert error["code"] == code, error


@dataclass
class Service:
    manager: WebSocketManager
    address: str
    schemas: Schemas


@contextlib.asynccontextmanager
async def service(broker: BrokerInterface, protocol: str) -> AsyncIterator[Service]:
    app = FastAPI(title="Chat", version="1")
    verifier = TokenVerifier(SECRET)
    limits = Limits(subscriptions=3, message_bytes=5000, messages_per_second=None, token_grace_seconds=60.0)
    manager = WebSocketManager(
        "chat", broker=broker, worker="chat-1", policy=Open(), limits=limits, verify=verifier.verify
    )

    @app.websocket("/ws/{user}")
    async def endpoint(websocket: WebSocket, user: str, lifetime_seconds: float = 60.0) -> None:
        connection = await manager.new_connection(
            websocket, f"{user}-1", user=user, expires_at=time.time() + lifetime_seconds
        )
        await manager.serve(connection)

    @app.websocket("/anonymous")
    async def anonymous(websocket: WebSocket) -> None:
        await manager.serve(await manager.new_connection(websocket, "nobody"))

    add_asyncapi(app)
    async with manager, serving(app, protocol) as (_, address):
        await eventually(lambda: manager.not_ready_reason is None)
        async with httpx.AsyncClient(trust_env=False) as client:
            document = (await client.get(f"http://{address}/asyncapi.json")).json()
        yield Service(manager, address, Schemas(document))


@contextlib.asynccontextmanager
async def speaking(service: Service, path: str) -> AsyncIterator[Speaker]:
    async with connect(f"ws://{service.address}{path}", compression=None, proxy=None) as websocket:
        speaker = Speaker(websocket)
        await speaker.until("welcome")
        yield speaker


def judge(schemas: Schemas, speaker: Speaker) -> set[str]:
    """The names of all that was said, each of which must be one message and only one; what was refused must be none."""
    names: set[str] = set()
    unreadable = [error for error in speaker.received if error["type"] == "error" and error["code"] in UNREADABLE]
    valid = 0
    for message in speaker.sent:
        matching = schemas.matching("requests", message)
        assert len(matching) <= 1, message
        names.update(matching)
        valid += len(matching)
    assert len(speaker.sent) - valid == len(unreadable), "the schemas refuse what the server refuses"
    for message in speaker.received:
        matching = sorted({*schemas.matching("answers", message), *schemas.matching("events", message)})
        assert len(matching) == 1, (message, matching)
        names.update(matching)
    return names


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_everything_that_is_said_is_in_the_document_and_everything_in_it_is_said(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LINGER_SECONDS", 0.05)
    async with (
        service(InMemoryBroker(), protocol) as chat,
        speaking(chat, "/ws/alice") as alice,
        speaking(chat, "/anonymous") as nobody,
    ):
        subscribed = await alice.ask("subscribe", topic="room/1")
        assert (await alice.ask("subscribe", topic="room/+"))["type"] == "subscribed"
        assert (await alice.ask("subscribe", topic="+/news"))["type"] == "subscribed"
        assert (await nobody.ask("subscribe", topic="room/1"))["type"] == "subscribed"
        await alice.hears("joined")

        # Publishing, and what is delivered of it.
        ack = await alice.ask("send", topic="room/1", data={"text": "Hello"}, mood="good", id="forged", at="forged")
        await alice.send("send", topic="room/1", data="without a ref")
        await alice.send("send", topic="room/1")
        assert len(await nobody.delivered(3)) == 3
        await nobody.send("send", topic="room/1", data="from nobody")
        assert "from" not in (await alice.delivered(4))[3]
        assert (await alice.ask("broadcast", data="to all"))["type"] == "ack"
        await nobody.hears("broadcast")
        await alice.ask("send_by_conn_id", conn_id="nobody", data="for you")
        await alice.ask("send_by_conn_id", conn_id=["nobody", "alice-1"], data="for us")
        await nobody.hears("send_by_conn_id")

        # History, presence, resuming.
        page = await nobody.ask("history", topic="room/1", limit=2)
        assert page["more"]
        assert await nobody.ask("history", topic="room/1", before=page["messages"][0]["id"])
        assert (await alice.ask("presence", topic="room/1"))["members"][0]["user"] == "alice"
        since = {"position": ack["id"], "epoch": subscribed["epoch"]}
        assert (await nobody.ask("subscribe", topic="room/1", since=since))["recovered"] is True
        assert (await nobody.ask("subscribe", topic="room/1", since={**since, "epoch": "other"}))["recovered"] is False

        # Everything that can be wrong with a request.
        assert (await alice.ask("subscribe", topic="secret"))["code"] == ErrorCode.NOT_ALLOWED
        assert (await alice.ask("presence", topic="room/2"))["code"] == ErrorCode.NOT_ALLOWED
        assert (await alice.ask("subscribe", topic="room/4"))["code"] == ErrorCode.TOO_MANY_SUBSCRIPTIONS
        assert (await alice.ask("authenticate", token="forged"))["code"] == ErrorCode.INVALID_TOKEN
        await alice.refused(ErrorCode.TOO_LARGE, {"type": "send", "topic": "room/1", "data": "x" * 6000})
        await alice.refused(ErrorCode.MALFORMED_JSON, ["no", "object"])
        await alice.refused(ErrorCode.UNKNOWN_TYPE, {"type": "close"})
        await alice.refused(ErrorCode.UNKNOWN_TYPE, {"ref": 5})
        await alice.refused(ErrorCode.INVALID_TOPIC, {"type": "send", "topic": "room/+"})
        await alice.refused(ErrorCode.INVALID_TOPIC, {"type": "subscribe", "topic": "a" * 300, "ref": "long"})
        for wrong in (
            {"type": "subscribe"},
            {"type": "subscribe", "topic": 5},
            {"type": "subscribe", "topic": "room/1", "since": "5-0"},
            {"type": "subscribe", "topic": "room/1", "since": {"position": "5", "epoch": "e"}},
            {"type": "subscribe", "topic": "room/1", "since": {"position": "5-0"}},
            {"type": "unsubscribe", "topic": "room/1", "ref": ["no", "ref"]},
            {"type": "send", "topic": "room/1", "conn_id": "nobody"},
            {"type": "broadcast", "topic": "room/1"},
            {"type": "send_by_conn_id"},
            {"type": "send_by_conn_id", "conn_id": []},
            {"type": "history", "topic": "room/1", "limit": 0},
            {"type": "history", "topic": "room/1", "limit": True},
            {"type": "history", "topic": "room/1", "before": "yesterday"},
            {"type": "authenticate"},
            {"type": "authenticate", "token": 5},
        ):
            await alice.refused(ErrorCode.INVALID_MESSAGE, wrong)

        # What the service itself says.
        chat.manager.broadcast({"type": "broadcast", "data": "by the service"})
        chat.manager.set_conn_id(next(c for c in chat.manager if c.id == "nobody"), "somebody")
        await nobody.hears("set_conn_id")
        for topic in ("room/1", "room/+"):
            assert (await alice.ask("unsubscribe", topic=topic))["type"] == "unsubscribed"
        await nobody.hears("left")

        # A token that expires, and the end.
        async with speaking(chat, "/ws/bob?lifetime_seconds=0.05") as bob:
            assert (await bob.until("token_expired"))["grace_seconds"] == 60.0
            token = issue_token("bob", secret=SECRET, lifetime_seconds=60)
            assert (await bob.ask("authenticate", token=token))["type"] == "authenticated"
            draining = asyncio.create_task(chat.manager.drain(0.05))
            codes = [await speaker.close_code() for speaker in (alice, nobody, bob)]
            await draining
            assert codes == [CloseCode.DRAIN] * 3

        said = [judge(chat.schemas, speaker) for speaker in (alice, nobody, bob)]
        assert set().union(*said) == chat.schemas.names()


async def test_a_broker_without_a_log_has_the_same_messages_without_positions() -> None:
    async with service(QueueBroker(), ASGI) as chat, speaking(chat, "/ws/alice") as alice:
        assert (await alice.ask("subscribe", topic="room/1"))["position"] is None
        assert (await alice.ask("send", topic="room/1", data="hello"))["id"] is None
        (message,) = await alice.delivered(1)
        assert "id" not in message
        assert (await alice.ask("history", topic="room/1"))["code"] == ErrorCode.NOT_ALLOWED
        assert (await alice.ask("presence", topic="room/1"))["code"] == ErrorCode.NOT_ALLOWED
        assert {"Subscribed", "Ack", "Delivered", "Error"} <= judge(chat.schemas, alice)
