"""The ways in which connections come and go, each made for real over TCP."""

import asyncio
import base64
import contextlib
import os
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from distributed_websocket import CloseCode, Message, WebSocketManager
from distributed_websocket.brokers.interface import LogBroker, Record
from tests.deadline import eventually
from tests.workers import Worker

AT_ONCE = 30
GONE_SECONDS = 60.0
LARGE = "x" * 20_000
MISSED = 30
"""Large messages that are replayed to who resumes: more than is sent at once, and more than a socket takes."""

TEXT, CLOSE = 0x1, 0x8


class Peer:
    """A TCP connection that says of WebSocket what it likes. It answers no ping."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: str) -> "Peer":
        """To `host:port`, with a receive buffer as small as the kernel allows."""
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, _, port = address.partition(":")
        try:
            await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        except BaseException:
            raw.close()
            raise
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
        """Read until a text comes."""
        seen = b""
        while text not in seen:
            data = await self.reader.read(4096)
            assert b'"type":"error"' not in data, data
            assert data, f"it was closed before {text[:50]!r}: {seen[-500:]!r}"
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


class Stage:
    """A worker on the loop of the test: at `address` it waits for ever for a client, at `impatient` it pings.

    The places of the user `full` are taken, and `since` is where a client was that missed a megabyte of `large/1`.
    """

    def __init__(self, worker: Worker, impatient: str, since: dict[str, str]) -> None:
        self.worker = worker
        self.address = worker.url.removeprefix("ws://").removesuffix("/ws")
        self.impatient = impatient
        self.since = since
        self.rng = random.Random(1)

    @classmethod
    async def open(cls, worker: Worker, impatient: str) -> "Stage":
        manager = worker.manager
        while manager._roster.admit("full", draining=False) is None:
            pass
        assert isinstance(manager.broker, LogBroker)
        shard = manager.broker.shard_of("large/1")
        extent = await manager.broker.extent(manager.broker_channel, shard)
        body = orjson.dumps({"type": "send", "topic": "large/1", "text": LARGE})
        await manager.broker.append(manager.broker_channel, shard, [Record("large/1", body)] * MISSED)
        return cls(worker, impatient, {"position": extent.last, "epoch": extent.epoch})

    @property
    def manager(self) -> WebSocketManager:
        return self.worker.manager

    def narrow(self, peer: Peer) -> None:
        """Let the kernel take no megabytes for it at the worker's end."""
        own_port = peer.writer.get_extra_info("sockname")[1]
        for protocol in self.worker.sockets():
            if protocol.transport.get_extra_info("peername")[1] == own_port:
                protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)

    async def overwhelm(self, topic: str) -> None:
        """Say more than anybody takes who does not read, until nobody is subscribed. No log keeps it."""
        while self.manager.index.match(topic):
            if self.manager.waiting_bytes < 5 * len(LARGE):
                self.manager.submit(Message(topic=topic, data={"text": LARGE, "ephemeral": True}))
            await asyncio.sleep(0.005)


Way = Callable[[Stage, Peer, str], Awaitable[None]]


async def closes(stage: Stage, peer: Peer, user: str) -> None:
    await peer.ask(user)
    peer.subscribe(f"room/{user}")
    peer.subscribe("room/+")
    await peer.until(b"room/+")
    peer.say(CLOSE, b"\x03\xe8")
    await peer.end()


async def is_reset(stage: Stage, peer: Peer, user: str) -> None:
    """Its pattern needs every shard."""
    await peer.ask(user)
    peer.subscribe(f"+/{user}/#")
    await peer.until(b"subscribed")
    peer.reset()


async def times_out(stage: Stage, peer: Peer, user: str) -> None:
    """Answers no ping."""
    impatient = await Peer.connect(stage.impatient)
    try:
        await impatient.ask(user)
        impatient.subscribe(f"room/{user}")
        await impatient.end()
    finally:
        impatient.writer.transport.abort()


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
    await peer.ask(user)
    peer.subscribe("large/1", since=stage.since)
    await peer.writer.drain()
    await asyncio.sleep(stage.rng.choice([0, 0, 0.001, 0.01]))  # at any moment of it: the moments are what is tried
    peer.reset()


async def is_killed_while_it_resumes(stage: Stage, peer: Peer, user: str) -> None:
    """There is more to replay than its socket takes."""
    await peer.ask(user)
    stage.narrow(peer)
    peer.subscribe("large/1", since=stage.since)
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
        peer.say(TEXT, orjson.dumps({"type": "send", "topic": "large/1", "n": number, "ref": number}))
    await peer.writer.drain()
    peer.reset()


async def is_too_slow(stage: Stage, peer: Peer, user: str) -> None:
    """And reads at last that it was closed."""
    await peer.ask(user)
    stage.narrow(peer)
    peer.subscribe(f"room/{user}/slow")
    await peer.until(b"subscribed")
    await stage.overwhelm(f"room/{user}/slow")
    await peer.end()


async def never_reads_again(stage: Stage, peer: Peer, user: str) -> None:
    """The server has to give its socket up."""
    await peer.ask(user)
    stage.narrow(peer)
    peer.subscribe(f"room/{user}")
    await peer.until(b"subscribed")
    own_port = peer.writer.get_extra_info("sockname")[1]
    await stage.overwhelm(f"room/{user}")
    peers_of = stage.worker.sockets
    await eventually(
        lambda: own_port not in {one.transport.get_extra_info("peername")[1] for one in peers_of()}, GONE_SECONDS
    )


async def is_sent_away(stage: Stage, peer: Peer, user: str) -> None:
    await peer.ask(user)
    peer.subscribe(f"room/{user}/own")
    await peer.until(b"subscribed")
    for connection in set(stage.manager.index.match(f"room/{user}/own")):
        connection.outbox.end(CloseCode.DRAIN)
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
    never_reads_again,
    is_sent_away,
]


async def come_and_go(stage: Stage, count: int) -> None:
    """`count` connections, `AT_ONCE` at a time, two for each user, in all the ways in turn."""
    numbers = iter(range(count))

    async def one_after_another() -> None:
        for number in numbers:
            peer = await Peer.connect(stage.address)
            try:
                async with asyncio.timeout(GONE_SECONDS):
                    await WAYS[number % len(WAYS)](stage, peer, f"u{number // 2}")
            finally:
                peer.writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())
