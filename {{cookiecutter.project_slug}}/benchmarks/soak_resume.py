"""Many messages through one topic of two real workers, while 20 clients drop and resume at random.

Each of them must have received each message once, in order. Exits with 1 where one has not, and says which.

    PYTHONPATH=src:. python benchmarks/soak_resume.py [--messages 1000000] [--clients 20] [--drops 25] [--seed 1]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from distributed_websocket.auth import issue_token
from distributed_websocket.brokers import RedisBroker
from distributed_websocket.brokers.interface import Record
from tests.processes import service
from tests.redis_server import RedisServer
from tests.service import load

SECRET = "a-secret-of-a-benchmark-that-nobody-else-uses"
TOPIC = "room/soak"
BATCH = 100
AHEAD = 20_000
"""Messages that the slowest client may be behind the newest one: publishing waits for it."""
RETENTION = 200_000
LONGEST_AWAY_SECONDS = 0.5
STALLED_SECONDS = 60.0

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class Fault(Exception):
    """A message came twice, too late or not at all, or was said not to be recovered."""


class Listener(asyncio.Protocol):
    """One connection: as little of WebSocket as it takes to keep up, and each message is looked at."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rest = b""
        self._upgraded = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        token = issue_token("soak", secret=SECRET, lifetime_seconds=3600)
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            "GET /ws HTTP/1.1\r\nHost: soak\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )

    def _send(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self._transport.write(bytes((0x80 | opcode,)) + size + mask + masked)

    def data_received(self, data: bytes) -> None:
        try:
            self._take(self._rest + data)
        except Exception as error:  # what cannot be read, too, is a fault, and not a lost connection
            if not self.ended.done():
                self.ended.set_exception(error if isinstance(error, Fault) else Fault(f"unreadable: {error!r}"))
            self._transport.abort()

    def _take(self, data: bytes) -> None:
        start = 0
        if not self._upgraded:
            head, found, _ = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = data
                return
            if not head.startswith(b"HTTP/1.1 101 "):  # not ready: come again
                self._transport.abort()
                return
            self._upgraded = True
            start = len(head) + 4
            self._send(TEXT, self.client.request())
        end = len(data)
        while start + 2 <= end:
            size, body = data[start + 1], start + 2
            if size == 126:
                size, body = int.from_bytes(data[start + 2 : start + 4], "big"), start + 4
            elif size == 127:
                size, body = int.from_bytes(data[start + 2 : start + 10], "big"), start + 10
            if body + size > end:
                break
            opcode = data[start] & 0xF
            payload = data[body : body + size]
            start = body + size
            if opcode == TEXT:
                if self.client.take(payload):
                    self._transport.abort()  # a lost connection: what is on its way is gone
                    self._rest = b""
                    return
            elif opcode == PING:
                self._send(PONG, payload)
            elif opcode == CLOSE:
                self._transport.close()
        self._rest = data[start:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class Client:
    """Comes and goes, and checks that nothing is missing, doubled or out of order."""

    def __init__(self, number: int, messages: int, drops: float, rng: random.Random) -> None:
        self.number = number
        self.seen = 0
        self.dropped = 0
        self.resumed = 0
        self.subscribed = asyncio.Event()
        self._messages = messages
        self._rng = rng
        self._every = messages / (drops + 1)
        self._drop_at = self._next_drop()
        self._position = ""
        self._epoch = ""

    def _next_drop(self) -> int:
        return self.seen + 1 + int(self._rng.expovariate(1 / self._every))

    def request(self) -> bytes:
        request: dict[str, Any] = {"type": "subscribe", "topic": TOPIC}
        if self._epoch:
            request["since"] = {"position": self._position, "epoch": self._epoch}
        return orjson.dumps(request)

    def take(self, payload: bytes) -> bool:
        """A text frame. Whether to drop the connection now."""
        message = orjson.loads(payload)
        if message["type"] == "send":
            if message["n"] != self.seen:
                raise Fault(f"client {self.number}: message {message['n']} instead of {self.seen}")
            self.seen += 1
            self._position = message["id"]
            if self.seen >= self._drop_at and self.seen < self._messages:
                self.dropped += 1
                self._drop_at = self._next_drop()
                return True
        elif message["type"] == "subscribed":
            if self._epoch:
                if message["recovered"] is not True:
                    raise Fault(f"client {self.number}: not recovered behind message {self.seen - 1}")
                self.resumed += 1
            else:
                self._position, self._epoch = message["position"], message["epoch"]
            self.subscribed.set()
        elif message["type"] == "error":  # the worker is behind the other one: come again
            return True
        return False

    async def run(self, ports: list[int]) -> None:
        loop = asyncio.get_running_loop()
        while self.seen < self._messages:
            with contextlib.suppress(OSError):
                _, listener = await loop.create_connection(lambda: Listener(self), "127.0.0.1", self._rng.choice(ports))
                while not listener.ended.done() and self.seen < self._messages:
                    await asyncio.wait([listener.ended], timeout=0.1)
                if listener.ended.done():
                    listener.ended.result()
            await asyncio.sleep(self._rng.uniform(0, LONGEST_AWAY_SECONDS))


async def publish(url: str, messages: int, clients: list[Client]) -> None:
    broker = RedisBroker(url, shard_levels=load("log").SHARD_LEVELS, retention_messages=RETENTION)
    shard = broker.shard_of(TOPIC)
    for start in range(0, messages, BATCH):
        while True:
            if min(client.seen for client in clients) >= start - AHEAD:
                break
            await asyncio.sleep(0.005)
        records = [
            Record(
                TOPIC, b'{"type":"send","topic":"%b","n":%d,"data":"a message of some length"}' % (TOPIC.encode(), n)
            )
            for n in range(start, min(start + BATCH, messages))
        ]
        await broker.append("chat", shard, records)
    await broker.disconnect()


async def watch(clients: list[Client]) -> None:
    """Ends the run when nothing moves any more."""
    last, since = -1, time.monotonic()
    while True:
        await asyncio.sleep(1)
        seen = sum(client.seen for client in clients)
        if seen != last:
            last, since = seen, time.monotonic()
        elif time.monotonic() - since > STALLED_SECONDS:
            behind = [f"{client.number}: {client.seen}" for client in clients]
            raise Fault(f"nothing came for {STALLED_SECONDS:g} s; messages by client: {', '.join(behind)}")


async def soak(url: str, ports: list[int], options: argparse.Namespace) -> dict[str, Any]:
    rng = random.Random(options.seed)
    clients = [
        Client(number, options.messages, options.drops, random.Random(rng.random()))
        for number in range(options.clients)
    ]
    running = [asyncio.create_task(client.run(ports)) for client in clients]
    watching = asyncio.create_task(watch(clients))
    for client in clients:
        await asyncio.wait_for(client.subscribed.wait(), 30)
    start = time.monotonic()
    publishing = asyncio.create_task(publish(url, options.messages, clients))
    everything = asyncio.gather(publishing, *running)
    ends: list[asyncio.Future[Any]] = [everything, watching]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    seconds = time.monotonic() - start
    for end in ends:
        if end.done():
            end.result()  # raises what went wrong
        else:
            end.cancel()
    return {
        "messages": options.messages,
        "clients": options.clients,
        "received by each, once and in order": sorted({client.seen for client in clients}),
        "drops": sum(client.dropped for client in clients),
        "resumed": sum(client.resumed for client in clients),
        "seconds": round(seconds, 1),
        "deliveries a second": round(options.messages * options.clients / seconds),
        "seed": options.seed,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--drops", type=float, default=25, help="of each client, on average")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        redis = RedisServer(folder, "--appendfsync", "everysec")
        redis.start()
        stack.callback(redis.stop)
        settings = {
            "CHAT_TOKEN_SECRET": SECRET,
            "CHAT_BROKER_URL": redis.url,
            "CHAT_RETENTION_MESSAGES": str(RETENTION),
        }
        workers = [
            stack.enter_context(service("chat", folder, settings | {"CHAT_WORKER_NAME": f"chat-{number}"}))
            for number in (1, 2)
        ]
        ports = [port for worker in workers if (port := urlsplit(worker.http).port)]
        try:
            print(json.dumps(asyncio.run(soak(redis.url, ports, options)), indent=1))
        except Fault as fault:
            print(fault, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
