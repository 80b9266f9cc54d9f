"""After many connections came and went, in all the ways that they go, a worker is as it was when it was warm.

`LEAK_CONNECTIONS=10000` in the environment makes them that many.
"""

import asyncio
import base64
import contextlib
import gc
import os
import random
import socket
import struct
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
import redis.asyncio

from distributed_websocket import Limits, Message, Policy, WebSocketManager, presence, reading
from distributed_websocket.feed import LogFeed
from distributed_websocket.positions import parse_position
from distributed_websocket.reading import ShardReader
from distributed_websocket.recovery import Tail
from tests.deadline import eventually
from tests.redis_server import RedisServer
from tests.workers import RAW, Worker, connected, working

CONNECTIONS = int(os.environ.get("LEAK_CONNECTIONS", "500"))
AT_ONCE = 25
GONE_SECONDS = 30.0
LARGE = "x" * 50_000

TEXT, CLOSE = 0x1, 0x8


class Everybody(Policy):
    def shows_presence(self, topic: str) -> bool:
        return True


class Peer:
    """A TCP connection that says of WebSocket what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, worker: Worker) -> "Peer":
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = urlsplit(worker.url)
        await asyncio.get_running_loop().sock_connect(raw, (address.hostname, address.port))
        return cls(*await asyncio.open_connection(sock=raw, limit=4096))

    async def ask(self, user: str, version: int = 13) -> bytes:
        """The handshake; the status line of its answer."""
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET /ws?user={user} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        return (await self.reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]

    def say(self, opcode: int, payload: bytes) -> None:
        size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self.writer.write(bytes((0x80 | opcode,)) + size + bytes(4) + payload)

    def subscribe(self, topic: str, **more: Any) -> None:
        self.say(TEXT, orjson.dumps({"type": "subscribe", "topic": topic, **more}))

    async def until(self, text: bytes) -> None:
        seen = b""
        while text not in seen:
            data = await self.reader.read(4096)
            assert data, seen
            seen = seen[-4096:] + data

    async def end(self) -> None:
        """Read until the server ends it."""
        with contextlib.suppress(OSError):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Way = Callable[["Stage", Peer, str], Awaitable[None]]


class Stage:
    """A worker, and the reader of its rooms."""

    def __init__(self, worker: Worker, reader: ShardReader) -> None:
        self.worker = worker
        self.reader = reader

    async def something_to_miss(self) -> dict[str, str]:
        """A `since` behind which there is a megabyte."""
        since = {"position": self.reader.position, "epoch": self.reader.epoch}
        for _ in range(20):
            self.worker.manager.submit(Message(topic="room/large", data={"text": LARGE}))
        await eventually(lambda: parse_position(self.reader.position) > parse_position(since["position"]))
        return since


async def closes(stage: Stage, peer: Peer, user: str) -> None:
    await peer.ask(user)
    peer.subscribe(f"room/{user}")
    peer.subscribe("room/+")
    await peer.until(b"room/+")
    peer.say(CLOSE, b"\x03\xe8")
    await peer.end()


async def is_reset(stage: Stage, peer: Peer, user: str) -> None:
    await peer.ask(user)
    peer.subscribe(f"room/{user}/#")
    await peer.until(b"subscribed")
    peer.reset()


async def times_out(stage: Stage, peer: Peer, user: str) -> None:
    """Answers no ping."""
    await peer.ask(user)
    peer.subscribe(f"room/{user}")
    await peer.end()


async def is_refused(stage: Stage, peer: Peer, user: str) -> None:
    assert b" 429 " in await peer.ask("full")
    await peer.end()


async def speaks_another_version(stage: Stage, peer: Peer, user: str) -> None:
    assert b" 4" in await peer.ask(user, version=8)


async def leaves_during_the_handshake(stage: Stage, peer: Peer, user: str) -> None:
    peer.writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: webs")
    await peer.writer.drain()
    peer.reset()


async def is_killed_while_it_subscribes(stage: Stage, peer: Peer, user: str) -> None:
    since = await stage.something_to_miss()
    await peer.ask(user)
    peer.subscribe("room/large", since=since)
    await peer.writer.drain()
    await asyncio.sleep(random.choice([0, 0, 0.001, 0.01]))
    peer.reset()


async def is_killed_while_it_resumes(stage: Stage, peer: Peer, user: str) -> None:
    """There is more to replay than its socket takes."""
    since = await stage.something_to_miss()
    await peer.ask(user)
    peer.subscribe("room/large", since=since)
    await peer.until(LARGE[:1000].encode())
    peer.reset()


async def talks_nonsense(stage: Stage, peer: Peer, user: str) -> None:
    await peer.ask(user)
    peer.subscribe(f"room/{user}")
    peer.say(0x7, b"no such opcode")
    await peer.end()


async def sends_and_vanishes(stage: Stage, peer: Peer, user: str) -> None:
    await peer.ask(user)
    for number in range(3):
        peer.say(TEXT, orjson.dumps({"type": "send", "topic": "room/1", "n": number, "ref": number}))
    await peer.writer.drain()
    peer.reset()


async def is_too_slow(stage: Stage, peer: Peer, user: str) -> None:
    await peer.ask(user)
    peer.subscribe("room/slow")
    await peer.until(b"subscribed")
    manager = stage.worker.manager
    while not peer.reader.at_eof() and manager.index.match("room/slow"):
        if manager.waiting_bytes < 20 * len(LARGE):
            manager.submit(Message(topic="room/slow", data={"text": LARGE}))
        await asyncio.sleep(0.005)
    await peer.end()


WAYS: list[Way] = [
    closes,
    is_reset,
    times_out,
    is_refused,
    speaks_another_version,
    leaves_during_the_handshake,
    is_killed_while_it_subscribes,
    is_killed_while_it_resumes,
    talks_nonsense,
    sends_and_vanishes,
    is_too_slow,
]


async def come_and_go(stage: Stage, count: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            peer = await Peer.connect(stage.worker)
            try:
                async with asyncio.timeout(GONE_SECONDS):
                    await WAYS[number % len(WAYS)](stage, peer, f"u{number % 50}")
            finally:
                peer.writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(count)))


def held(worker: Worker) -> dict[str, Any]:
    """What a worker holds for its connections."""
    manager = worker.manager
    feed, of_users = manager.feed, manager.presence
    assert isinstance(feed, LogFeed)
    assert of_users is not None
    loop: Any = asyncio.get_running_loop()
    return {
        "connections": len(manager),
        "roster": {name: len(value) for name, value in vars(manager._roster).items() if hasattr(value, "__len__")},
        "places": manager._roster._places,
        "pairs of pattern and subscriber": len(manager.index),
        "topics in the index": len(manager.index._exact),
        "patterns in the index": not manager.index._root.is_empty(),
        "readers": sorted(feed._readers),
        "followers": [feed._readers[shard].followers for shard in sorted(feed._readers)],
        "readers that stop": len(feed._stopping),
        "bytes to publish": feed.publisher.waiting_bytes,
        "publishing": len(feed.publisher._tasks),
        "presence": {name: len(value) for name, value in vars(of_users).items() if isinstance(value, (dict, set))},
        "sockets": len(worker.sockets()),
        "tasks of the server": len(worker.server.server_state.tasks),
        "tasks": Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks()),
        "timers": len([timer for timer in loop._scheduled if not timer.cancelled()]) // 10,
        "files": len(os.listdir("/proc/self/fd")) - connections_to_redis(worker),
    }


def connections_to_redis(worker: Worker) -> int:
    """They are kept, as many as were ever used at once."""
    pool: Any = worker.manager.broker._client._pool  # type: ignore[attr-defined]
    return sum(one.is_connected for one in (*pool._available_connections, *pool._in_use_connections))


async def stored(server: RedisServer) -> list[bytes]:
    async with redis.asyncio.Redis.from_url(server.url) as control:
        return sorted([key async for key in control.scan_iter("*") if b":keys:" not in key])


def objects() -> Counter[str]:
    """What there is of the library's and the server's classes. Entries are what the readers keep on purpose."""
    gc.collect()
    names = (f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects())
    ours = ("distributed_websocket.", "uvicorn.", "asyncio.", "starlette.")
    return Counter(name for name in names if name.startswith(ours) and not name.endswith((".Entry", ".Record")))


@pytest.fixture
def quick_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that writes no file: many megabytes go through it."""
    server = RedisServer(tmp_path, "--appendonly", "no")
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(60 + CONNECTIONS // 5)
async def test_a_worker_is_as_it_was_when_all_are_gone(
    quick_redis: RedisServer, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(reading, "Tail", lambda floor="0-0": Tail(floor, max_entries=20))
    manager = WebSocketManager(
        channel,
        quick_redis.url,
        policy=Everybody(),
        limits=Limits(connections_per_user=30, unsent_bytes=200_000, messages_per_second=None),
        retention_messages=1_000,
    )
    options = {"ws_ping_interval": 1.5, "ws_ping_timeout": 1.5}
    async with working(manager, RAW, **options) as worker, contextlib.AsyncExitStack() as stack:
        for _ in range(30):
            await stack.enter_async_context(connected(worker.url, "full"))
        (reader,) = manager.feed.follow("room/1")
        await reader.opened()
        stage = Stage(worker, reader)
        await come_and_go(stage, 4 * len(WAYS))
        await settled(worker, quick_redis)
        warm, warm_keys, warm_objects = held(worker), await stored(quick_redis), objects()
        tracemalloc.start()
        await come_and_go(stage, 2 * len(WAYS))  # what tracemalloc did not see before comes and goes
        await settled(worker, quick_redis)
        gc.collect()
        memory = tracemalloc.get_traced_memory()[0]

        await come_and_go(stage, CONNECTIONS)

        await settled(worker, quick_redis)
        with contextlib.suppress(AssertionError):
            await eventually(lambda: held(worker) == warm, GONE_SECONDS)
        assert held(worker) == warm
        assert await stored(quick_redis) == warm_keys
        assert objects() - warm_objects == Counter()
        grown = tracemalloc.get_traced_memory()[0] - memory
        tracemalloc.stop()
        assert grown < 200_000 + 20 * CONNECTIONS, f"{grown / CONNECTIONS:.0f} bytes for each connection"


async def settled(worker: Worker, server: RedisServer) -> None:
    """Everybody is gone, and Redis has been told."""
    presence_of = worker.manager.presence
    assert presence_of is not None
    await eventually(lambda: len(worker.manager) == 30 and len(worker.sockets()) == 30, GONE_SECONDS)
    await eventually(lambda: not presence_of._lingering and not presence_of._known, GONE_SECONDS)
    await asyncio.sleep(0.2)
