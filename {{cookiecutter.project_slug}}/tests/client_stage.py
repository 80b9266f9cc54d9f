"""What the clients are tried on: two real chat workers, and one that stores nothing, behind a network with faults.

Tests in Python use a `Stage` directly. Run as a program, `python -m tests.client_stage`, it serves any number of them
over HTTP, for clients in other languages: `POST /` makes one, `POST /{stage}/{method}` calls a method of it with the
arguments in the body. It writes its address to stdout, and ends when its stdin does.
"""

import asyncio
import contextlib
import json
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Annotated, Any
from uuid import uuid4

import uvicorn
from fastapi import Body, Depends, FastAPI, WebSocket

from distributed_websocket import (
    BrokerInterface,
    CloseCode,
    Connection,
    InMemoryBroker,
    Limits,
    Message,
    Overloaded,
    Policy,
    WebSocketManager,
    WebSocketOAuth2PasswordBearer,
)
from distributed_websocket.auth import (
    Authenticator,
    Identity,
    TokenVerifier,
    issue_token,
    negotiate_subprotocol,
    refuse,
)
from distributed_websocket.brokers.interface import record_of
from distributed_websocket.server import RawWebSocketProtocol

SECRET = "a secret that only the tests of the clients know"
DEADLINE_SECONDS = 10.0
UNLOGGED = 2
"""The worker that stores nothing."""


async def until(condition: Callable[[], bool], what: str = "") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.002)


class Line:
    """One connection through the network, to its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carries = asyncio.Event()
        self.carries.set()
        self.deaf = False
        self._client = reader, writer
        self._writers = [writer]

    async def lead_to(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.append(writer)
        client_reader, client_writer = self._client
        ways = [
            asyncio.create_task(self._carry(client_reader, writer, to_client=False)),
            asyncio.create_task(self._carry(reader, client_writer, to_client=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_client: bool) -> None:
        while data := await reader.read(65_536):
            await self.carries.wait()
            if writer.is_closing():
                break
            if not (to_client and self.deaf):
                writer.write(data)
                await writer.drain()
        await self.carries.wait()

    def cut(self) -> None:
        self.carries.set()
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class Network:
    """Carries the bytes between clients and `targets`, one for each new connection in turn, and fails on demand."""

    def __init__(self, targets: list[int]) -> None:
        self.targets = targets
        self.accepted = 0
        self.port = 0
        self.down = False
        """New connections are closed at once."""
        self.lines: set[Line] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.down = True
        for line in self.lines:
            line.cut()
        await asyncio.gather(*self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        line = Line(reader, writer)
        self.lines.add(line)
        try:
            if not self.down:
                await line.lead_to(self.targets[self.accepted % len(self.targets)])
        except OSError:
            pass
        finally:
            line.close()
            self.lines.discard(line)
            self._tasks.discard(task)


class StagePolicy(Policy):
    """Topics that begin with `forbidden` are; the next `busy` requests are refused for now; `present/...` shows who."""

    def __init__(self) -> None:
        self.busy = 0
        self.forbidden = "forbidden/"

    def may_subscribe(self, connection: Connection, pattern: str) -> bool:
        self._refuse_while_busy()
        return not pattern.startswith(self.forbidden)

    def may_publish(self, connection: Connection, topic: str) -> bool:
        self._refuse_while_busy()
        return not topic.startswith(self.forbidden)

    def may_broadcast(self, connection: Connection) -> bool:
        return True

    def shows_presence(self, topic: str) -> bool:
        return topic.startswith("present/")

    def _refuse_while_busy(self) -> None:
        if self.busy:
            self.busy -= 1
            raise Overloaded("the stage plays a busy worker")


class ForgetfulBroker(BrokerInterface):
    """At most once: all that a broker of one's own needs."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[Message] = asyncio.Queue()

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    async def subscribe(self, channel: str) -> None: ...

    async def unsubscribe(self, channel: str) -> None: ...

    async def publish(self, channel: str, message: Any) -> None:
        self._messages.put_nowait(Message.from_client_message(data=json.loads(message)))

    async def get_message(self, **kwargs: Any) -> Message | None:
        return await self._messages.get()


class LoopServer(uvicorn.Server):
    """uvicorn on the running loop, which leaves the signals to others."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Worker:
    """A chat worker as the service has it, on a port of its own."""

    def __init__(self, name: str, broker: BrokerInterface, policy: Policy, limits: Limits, protocol: Any) -> None:
        verifier = TokenVerifier(SECRET)
        self.manager = WebSocketManager(
            "stage",
            broker=broker,
            worker=name,
            policy=policy,
            limits=limits,
            verify=verifier.verify,
            probe_seconds=0.2,
        )
        authenticate = Authenticator(WebSocketOAuth2PasswordBearer("/api/token", cookie=None), verifier, origins=None)
        app = FastAPI()

        @app.websocket("/ws")
        async def chat(websocket: WebSocket, identity: Annotated[Identity, Depends(authenticate)]) -> None:
            if self.manager.not_ready_reason is not None:
                await refuse(websocket, HTTPStatus.SERVICE_UNAVAILABLE, self.manager.not_ready_reason)
            connection = await self.manager.new_connection(
                websocket,
                uuid4().hex,
                user=identity.user,
                expires_at=identity.expires_at,
                subprotocol=negotiate_subprotocol(websocket),
            )
            await self.manager.serve(connection)

        config = uvicorn.Config(app, ws=protocol, ws_per_message_deflate=False, lifespan="off", log_config=None)
        self._server = LoopServer(config)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.manager.startup()
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        await until(lambda: self._server.started and self.manager.not_ready_reason is None, "a worker that is ready")

    async def stop(self) -> None:
        assert self._serving is not None
        self._server.should_exit = True
        await asyncio.wait_for(self._serving, DEADLINE_SECONDS)
        await self.manager.shutdown()


class Stage:
    """The workers, the log that two of them share, and the network before them. Its methods are what can be played."""

    def __init__(self, retention_messages: int = 10_000, messages_per_second: float | None = None) -> None:
        self.broker = InMemoryBroker(shards=4, retention_messages=retention_messages)
        self.policy = StagePolicy()
        limits = Limits(messages_per_second=messages_per_second, token_grace_seconds=0.5)
        self.workers = [
            Worker("chat-1", self.broker, self.policy, limits, RawWebSocketProtocol),
            Worker("chat-2", self.broker, self.policy, limits, "websockets-sansio"),
            Worker("chat-3", ForgetfulBroker(), self.policy, limits, RawWebSocketProtocol),
        ]
        self.network = Network([worker.port for worker in self.workers[:UNLOGGED]])
        self._drains: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.network.port}/ws"

    async def start(self) -> None:
        await asyncio.gather(*(worker.start() for worker in self.workers))
        await self.network.start()

    async def stop(self) -> None:
        await self.network.stop()
        for drain in self._drains:
            drain.cancel()
        await asyncio.gather(*self._drains, *(worker.stop() for worker in self.workers), return_exceptions=True)

    # The network

    def cut(self) -> None:
        """End all connections without a word."""
        for line in self.network.lines:
            line.cut()

    def stall(self) -> None:
        """Carry nothing more on the connections that there are; they stay open."""
        for line in self.network.lines:
            line.carries.clear()

    def lose_answers(self) -> None:
        """Carry nothing more to the clients on the connections that there are."""
        for line in self.network.lines:
            line.deaf = True

    def down(self) -> None:
        self.network.down = True
        self.cut()

    def up(self) -> None:
        self.network.down = False

    def lead_to(self, worker: int) -> None:
        """New connections reach only this worker."""
        self.network.targets = [self.workers[worker].port]

    def accepted(self) -> int:
        """Connections that were tried until now."""
        return self.network.accepted

    async def until_gone(self) -> None:
        """No connection is left, and no worker has one."""
        await until(
            lambda: not self.network.lines and not any(len(worker.manager) for worker in self.workers),
            "all connections gone",
        )

    # The workers

    def token(self, lifetime_seconds: float = 600, user: str = "alice") -> str:
        return issue_token(user, secret=SECRET, lifetime_seconds=lifetime_seconds)

    def connected_to(self) -> list[str]:
        """The names of the workers, once for each connection."""
        return [worker.manager.worker for worker in self.workers for _ in worker.manager]

    def topics(self) -> list[str]:
        """What the workers deliver, once for each connection."""
        return sorted(topic for worker in self.workers for each in worker.manager for topic in each.topics)

    async def publish(self, topic: str, values: list[Any]) -> list[str]:
        """Store messages from outside, and give their positions."""
        records = [record_of({"type": "send", "topic": topic, "data": value}) for value in values]
        return await self.broker.append("stage", self.broker.shard_of(topic), records)

    async def publish_in_turn(self, topics: list[str], values: list[Any]) -> None:
        """Each value on each topic, one after the other."""
        for value in values:
            for topic in topics:
                await self.publish(topic, [value])

    async def publish_slowly(self, topic: str, values: list[Any], seconds: float) -> None:
        """Spread over this time."""
        for value in values:
            await self.publish(topic, [value])
            await asyncio.sleep(seconds / len(values))

    async def stored(self, topic: str) -> list[Any]:
        """The data of the messages in the log, oldest first."""
        entries = await self.broker.range_back("stage", self.broker.shard_of(topic), "", limit=100_000)
        return [json.loads(entry.body)["data"] for entry in reversed(entries) if entry.topic == topic]

    async def until_stored(self, topic: str, data: list[Any]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.stored(topic) != data:  # noqa: ASYNC110 - the log tells nobody that it grew
                await asyncio.sleep(0.005)

    def lose_log(self) -> None:
        """As a Redis that comes back empty."""
        self.broker._logs.clear()

    def drain(self, worker: int, within_seconds: float) -> None:
        self._drains.append(asyncio.create_task(self.workers[worker].manager.drain(within_seconds)))

    def close(self, code: int) -> None:
        """Close every connection with this code."""
        for worker in self.workers:
            for connection in worker.manager:
                connection.outbox.end(CloseCode(code))

    def broadcast(self, data: Any) -> None:
        for worker in self.workers:
            worker.manager.broadcast({"type": "broadcast", "data": data})

    def send_text(self, text: str) -> None:
        """As a server of another mind would: to every connection."""
        for worker in self.workers:
            worker.manager.broadcast(json.loads(text))

    def busy(self, requests: int) -> None:
        self.policy.busy = requests

    def forbid(self, beginning: str) -> None:
        self.policy.forbidden = beginning

    def still_busy(self) -> int:
        return self.policy.busy


@contextlib.asynccontextmanager
async def stage(**options: Any) -> AsyncIterator[Stage]:
    it = Stage(**options)
    await it.start()
    try:
        yield it
    finally:
        await it.stop()


def application() -> FastAPI:
    app = FastAPI()
    stages: dict[str, Stage] = {}

    @app.post("/")
    async def make(options: Annotated[dict[str, Any], Body()]) -> dict[str, str]:
        it = Stage(**options)
        await it.start()
        stages[name := uuid4().hex] = it
        return {"name": name, "url": it.url}

    @app.post("/{name}/{method}")
    async def call(name: str, method: str, arguments: Annotated[list[Any], Body()]) -> Any:
        result = getattr(stages[name], method)(*arguments)
        return await result if isinstance(result, Awaitable) else result

    return app


async def main() -> None:
    # A line that is cut in the middle of a batch is worth a warning for each message of it, on the ASGI path.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    listener = socket.create_server(("127.0.0.1", 0))
    server = LoopServer(uvicorn.Config(application(), lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
