"""Real uvicorn workers on the event loop of the test, and a client that speaks the wire protocol to them."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from distributed_websocket import WebSocketManager
from distributed_websocket.positions import parse_position
from tests.deadline import DEADLINE_SECONDS, eventually

ASGI = "websockets-sansio"
RAW = "distributed_websocket.server:RawWebSocketProtocol"
PROTOCOLS = [ASGI, RAW]

Fields = dict[str, Any]


class LoopServer(uvicorn.Server):
    """uvicorn on the running loop, which leaves the signals to pytest.

    It stops as soon as it is told to and everything has ended: uvicorn's own looks ten times a second, which is long
    for hundreds of servers.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110 - uvicorn sets it
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn changes them
            await asyncio.sleep(0.005)
        await self.lifespan.shutdown()


def application(manager: WebSocketManager) -> FastAPI:
    """The smallest service: `/ws?user=alice` (anonymous without)."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        user = websocket.query_params.get("user")
        connection = await manager.new_connection(websocket, secrets.token_hex(4), user=user)
        await manager.serve(connection)

    return app


@dataclass
class Worker:
    manager: WebSocketManager
    server: LoopServer
    url: str

    def sockets(self) -> list[Any]:
        """uvicorn's protocols, one for each open connection."""
        return list(self.server.server_state.connections)


@contextlib.asynccontextmanager
async def serving(app: FastAPI, protocol: str, **options: Any) -> AsyncIterator[tuple[LoopServer, str]]:
    """An application behind uvicorn, and its address without a scheme."""
    options = {"lifespan": "off", "ws_per_message_deflate": False, **options}
    config = uvicorn.Config(app, ws=protocol, log_config=None, access_log=False, **options)
    server = LoopServer(config)
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await eventually(lambda: server.started or task.done())
    try:
        yield server, f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@contextlib.asynccontextmanager
async def working(manager: WebSocketManager, protocol: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker that is ready; its manager is shut down at the end."""
    async with manager, serving(application(manager), protocol, **options) as (server, address):
        await eventually(lambda: manager.not_ready_reason is None)
        yield Worker(manager, server, f"ws://{address}/ws")


@dataclass
class Client:
    """A client that keeps what it got, in order."""

    socket: ClientConnection
    received: list[Fields] = field(default_factory=list)

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(orjson.dumps({"type": kind, **fields}).decode())

    async def receive(self) -> Fields:
        """The next message, whatever it is."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            message: Fields = orjson.loads(await self.socket.recv())
        self.received.append(message)
        return message

    async def until(self, kind: str) -> Fields:
        """The next message of a type; what comes before it is kept in `received`."""
        while (message := await self.receive())["type"] != kind:
            pass
        return message

    async def subscribe(self, topic: str, **fields: Any) -> Fields:
        await self.send("subscribe", topic=topic, **fields)
        return await self.until("subscribed")

    async def publish(self, topic: str, data: Any) -> Fields:
        """Send a message and return its ack."""
        ref = secrets.token_hex(4)
        await self.send("send", topic=topic, data=data, ref=ref)
        return await self.until("ack")

    async def delivered(self, count: int) -> list[Fields]:
        """The first `count` messages delivered so far, waiting for those that are missing."""
        while len(found := self.deliveries()) < count:
            await self.receive()
        return found[:count]

    def deliveries(self) -> list[Fields]:
        return [message for message in self.received if message["type"] == "send"]

    async def nothing_more(self) -> None:
        """Everything that the server wrote before this moment was received (its answer to an error comes last)."""
        await self.send("no such type", ref="fence")
        while (await self.receive()).get("ref") != "fence":
            pass

    async def close_code(self) -> int:
        """Receive until the connection ends, and return the code that ended it (1006 for none)."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd is not None else 1006


@contextlib.asynccontextmanager
async def connected(url: str, user: str | None = None, **options: Any) -> AsyncIterator[Client]:
    """A client that was welcomed."""
    query = f"?user={user}" if user is not None else ""
    async with connect(url + query, compression=None, proxy=None, **options) as websocket:
        client = Client(websocket)
        assert (await client.receive())["type"] == "welcome"
        yield client


def ids(messages: list[Fields]) -> list[tuple[int, int]]:
    return [parse_position(message["id"]) for message in messages]
