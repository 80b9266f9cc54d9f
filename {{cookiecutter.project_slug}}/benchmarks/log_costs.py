"""What the log costs: Redis's CPU to store a message and to give it to one more worker, and a worker's to read one that
none of its clients wants. `docs/capacity.json` has the figures.

    PYTHONPATH=src:. python benchmarks/log_costs.py
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil

from distributed_websocket.brokers import create_broker
from distributed_websocket.brokers.interface import LogBroker, Record
from distributed_websocket.connection import Connection
from distributed_websocket.delivery import fan_out
from distributed_websocket.topics import TopicIndex
from tests.redis_server import RedisServer

MESSAGES = 40_000
APPENDED_AT_ONCE = 32
READ_AT_ONCE = 20
BODY = json.dumps({"type": "send", "topic": "room/1", "from": "alice", "data": "x" * 120}).encode()


async def main(server: RedisServer) -> dict[str, float]:
    broker = create_broker(server.url, retention_messages=2 * MESSAGES)
    assert isinstance(broker, LogBroker)
    extent = await broker.extent("bench", 1)
    start = extent.last
    redis = psutil.Process(server.process.pid)

    async def costs(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
        """CPU µs a message: Redis's, and this process's."""
        before, own = sum(redis.cpu_times()[:2]), time.process_time()
        await work()
        return (
            (sum(redis.cpu_times()[:2]) - before) / MESSAGES * 1e6,
            (time.process_time() - own) / MESSAGES * 1e6,
        )

    async def append() -> None:
        for first in range(0, MESSAGES, APPENDED_AT_ONCE):
            numbers = range(first, first + APPENDED_AT_ONCE)
            await broker.append("bench", 1, [Record(f"room/{n % 997}", BODY, (), f"key-{n}") for n in numbers])

    async def read() -> None:
        index: TopicIndex[Connection] = TopicIndex()
        position, found = start, 0
        while entries := await broker.read("bench", 1, position, limit=READ_AT_ONCE, wait_seconds=0.05):
            fan_out(entries, lambda entry: index.match(entry.topic))
            position = entries[-1].position
            found += len(entries)
        assert found == MESSAGES, found

    stored, _ = await costs(append)
    given, read_here = await costs(read)
    await broker.disconnect()
    return {
        "redis_us_per_message": round(stored, 1),
        "redis_us_per_message_and_worker": round(given, 2),
        "worker_us_per_message_read": round(read_here, 1),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), "--appendfsync", "everysec")
        server.start()
        try:
            print(json.dumps(asyncio.run(main(server)), indent=1))
        finally:
            server.stop()
