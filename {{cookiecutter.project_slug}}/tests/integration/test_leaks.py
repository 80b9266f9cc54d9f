"""After many connections came and went, in all the ways that they go, a worker is as it was when it was warm.

`LEAK_CONNECTIONS=10000` in the environment makes them that many.
"""

import asyncio
import functools
import gc
import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis.asyncio

from distributed_websocket import Limits, Policy, WebSocketManager, presence, reading, server
from distributed_websocket.feed import LogFeed
from distributed_websocket.recovery import Tail
from tests.departures import GONE_SECONDS, WAYS, Stage, come_and_go
from tests.redis_server import RedisServer
from tests.workers import RAW, LoopServer, Worker, application, serving, working

CONNECTIONS = int(os.environ.get("LEAK_CONNECTIONS", "600"))
BYTES_OF_EACH = 40
"""What a connection may leave behind: less than the smallest object of Python's in a list or a set."""
BYTES_OF_ALL = 500_000
"""What the same connections, come and gone once more, may differ by: buffers that have grown, caches."""


class Everybody(Policy):
    def shows_presence(self, topic: str) -> bool:
        return True


class Held:
    """What a worker holds for its connections, each as a number."""

    def __init__(self, worker: Worker, impatient: LoopServer, redis_server: RedisServer) -> None:
        self._worker = worker
        self._servers = (worker.server.server_state, impatient.server_state)
        self._redis_server = redis_server
        self._process = psutil.Process()
        self._pool: Any = worker.manager.broker._client._pool  # type: ignore[attr-defined]

    def now(self) -> Counter[str]:
        manager = self._worker.manager
        feed, of_users = manager.feed, manager.presence
        assert isinstance(feed, LogFeed)
        assert of_users is not None
        loop: Any = asyncio.get_running_loop()
        tasks = Counter(f"task {getattr(task.get_coro(), '__qualname__', '?')}" for task in asyncio.all_tasks())
        timers = Counter(
            f"timer {getattr(timer._callback, '__qualname__', '?')}"
            for timer in loop._scheduled
            if not timer.cancelled()
        )
        return Counter(
            {
                "connections": len(manager),
                "connection ids": len(manager._roster._by_id),
                "places": manager._roster._places,
                "users with a place": len(manager._roster._places_of),
                "pairs of pattern and subscriber": len(manager.index),
                "topics in the index": len(manager.index._exact),
                "nodes of patterns": nodes(manager.index._root),
                "readers": len(feed._readers),
                "followers": sum(reader.followers for reader in feed._readers.values()),
                "readers that stop": len(feed._stopping),
                "bytes to publish": feed.publisher.waiting_bytes,
                "publishing": len(feed.publisher._tasks),
                "present": len(of_users._here),
                "known to be present": len(of_users._known),
                "changes of presence": len(of_users._changed),
                "about to leave": len(of_users._lingering),
                "connections to Redis in use": len(self._pool._in_use_connections),
                "sockets": sum(len(state.connections) for state in self._servers),
                "tasks of the servers": sum(len(state.tasks) for state in self._servers),
                "files": self._process.num_fds() - self._connections_to_redis(),
            }
            | tasks
            | timers
        )

    def _connections_to_redis(self) -> int:
        """They are kept, as many as were ever used at once."""
        pool = self._pool
        return sum(one.is_connected for one in (*pool._available_connections, *pool._in_use_connections))

    async def steady(self) -> Counter[str]:
        """What is held when nothing has changed for a while."""
        before, since = self.now(), time.monotonic()
        deadline = time.monotonic() + GONE_SECONDS
        while time.monotonic() - since < 0.3 or self.now()["connections"]:
            assert time.monotonic() < deadline, self.now()
            await asyncio.sleep(0.02)
            if (now := self.now()) != before:
                before, since = now, time.monotonic()
        return before

    async def keys(self) -> set[bytes]:
        async with redis.asyncio.Redis.from_url(self._redis_server.url) as control:
            return {key async for key in control.scan_iter("*") if b":keys:" not in key}

    async def keys_beyond(self, warm: set[bytes]) -> set[bytes]:
        """Idempotency keys are there for a while, and then they go too."""
        deadline = time.monotonic() + GONE_SECONDS
        async with redis.asyncio.Redis.from_url(self._redis_server.url) as control:
            while more := {key async for key in control.scan_iter("*")} - warm:
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.1)
        return more


def rss() -> int:
    resident: int = psutil.Process().memory_info().rss
    return resident


def nodes(root: Any) -> int:
    found, waiting = 0, [root]
    while waiting:
        node = waiting.pop()
        found += 1
        waiting += [*node.children.values(), *([node.plus] if node.plus else [])]
    return found


def objects() -> Counter[str]:
    """What there is of the library's and the server's classes.

    Entries lie in the tail on purpose; and the loop keeps timers that were cancelled until their time comes.
    """
    gc.collect()
    names = (f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects())
    ours = ("distributed_websocket.", "uvicorn.", "starlette.", "websockets.")
    kept = (".Entry", ".Record", ".TimerHandle")
    return Counter(name for name in names if name.startswith(ours) and not name.endswith(kept))


async def beyond(warm: Counter[str], now: Callable[[], Counter[str]]) -> Counter[str]:
    """What there is more of than there was, and stays: a probe that is just under way goes."""
    deadline = time.monotonic() + GONE_SECONDS
    while more := now() - warm:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    return more


@pytest.fixture
def quick_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that writes no file: many megabytes go through it."""
    server = RedisServer(tmp_path, "--appendonly", "no")
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(120 + CONNECTIONS // 5)
async def test_a_worker_is_as_it_was_when_all_are_gone(
    quick_redis: RedisServer, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(server, "ABORT_SECONDS", 0.5)
    monkeypatch.setattr(reading, "Tail", functools.partial(Tail, max_entries=50))
    manager = WebSocketManager(
        channel,
        quick_redis.url,
        policy=Everybody(),
        limits=Limits(connections_per_user=5, unsent_bytes=50_000, messages_per_second=None),
        retention_messages=10_000 + 2 * CONNECTIONS,
        idempotency_seconds=1,
        answer_seconds=GONE_SECONDS,  # a machine under load is no reason to refuse anybody
        command_timeout_seconds=GONE_SECONDS,
    )
    async with (
        working(manager, RAW, ws_ping_interval=None) as worker,
        serving(application(manager), RAW, ws_ping_interval=0.2, ws_ping_timeout=0.2) as (impatient, address),
    ):
        held = Held(worker, impatient, quick_redis)
        stage = await Stage.open(worker, address)
        await come_and_go(stage, 8 * len(WAYS))
        warm = await held.steady()
        warm_keys, warm_objects = await held.keys(), objects()
        tracemalloc.start()
        try:
            await come_and_go(stage, 8 * len(WAYS))  # what tracemalloc did not see come comes again
            await held.steady()
            gc.collect()
            memory, resident = tracemalloc.get_traced_memory()[0], rss()

            await come_and_go(stage, CONNECTIONS)

            assert await beyond(warm, held.now) == Counter()
            assert await beyond(warm_objects, objects) == Counter()
            grown = tracemalloc.get_traced_memory()[0] - memory
        finally:
            tracemalloc.stop()
        print(f"{CONNECTIONS} connections: {grown} bytes more, {rss() - resident} bytes more resident")
        assert grown < BYTES_OF_ALL + BYTES_OF_EACH * CONNECTIONS, f"{grown / CONNECTIONS:.0f} bytes for each"
        assert await held.keys_beyond(warm_keys) == set()
