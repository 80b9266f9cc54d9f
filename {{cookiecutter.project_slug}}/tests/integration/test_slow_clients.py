"""Clients that stop reading: a worker closes them at their bound, and the others notice nothing. Nothing is timed."""

import asyncio
import contextlib
import re
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from distributed_websocket import CloseCode
from distributed_websocket.brokers import RedisBroker
from distributed_websocket.brokers.interface import Record
from tests.deadline import eventually
from tests.processes import Running, service
from tests.redis_server import RedisServer
from tests.service import load
from tests.subscribers import body, is_connected, last_words, reading, stalled

SECRET = "a-secret-of-a-test-that-nobody-else-uses"
TOPIC = "room/slow"
READERS, STALLED = 30, 3
BOUND = 2**16
BATCH, MESSAGE_BYTES = 7, 4_000
BATCH_BYTES = BATCH * (MESSAGE_BYTES + 200)
"""So small that the unsent bytes of all tell whether each of them is at its bound."""
MOST_BATCHES = 1_000
"""Times 30 kB: more than the kernel takes for a client that does not read."""


def metric(worker: Running, sample: str) -> float:
    """0 for what was never counted."""
    with urllib.request.urlopen(worker.http + "/metrics", timeout=30) as answer:
        found = re.search(rf"^{re.escape(sample)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_stalled_clients_are_closed_at_their_bound_and_the_others_get_everything(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    with contextlib.ExitStack() as things:
        things.callback(redis.stop)
        settings = {
            "CHAT_TOKEN_SECRET": SECRET,
            "CHAT_BROKER_URL": redis.url,
            "CHAT_MAX_UNSENT_BYTES": str(BOUND),
            "CHAT_PING_INTERVAL_SECONDS": "300",
        }
        worker = things.enter_context(service("chat", tmp_path, settings))
        port = urlsplit(worker.http).port
        assert port is not None
        readers = [await reading(port, number, TOPIC, SECRET, lambda *_: None) for number in range(READERS)]
        stalls = [await stalled(port, READERS + number, TOPIC, SECRET) for number in range(STALLED)]
        for client in stalls:
            things.callback(client.close)
        process = psutil.Process(worker.process.pid)
        broker = RedisBroker(redis.url, shard_levels=load("log").SHARD_LEVELS)

        before = process.memory_info().rss
        sent, unsent, memory, at_the_bound = 0, 0.0, 0, False
        for _ in range(MOST_BATCHES):
            records = [Record(TOPIC, body(TOPIC, sent + number, MESSAGE_BYTES)) for number in range(BATCH)]
            await broker.append("chat", broker.shard_of(TOPIC), records)
            sent += BATCH
            await eventually(lambda: all(reader.next >= sent or reader.fault for reader in readers), 60)  # noqa: B023
            # On a busy machine those at their bound first may be gone before the last one is there.
            if at_the_bound or not any(map(is_connected, stalls)):
                break
            unsent = await asyncio.to_thread(metric, worker, "ws_unsent_bytes")
            assert unsent <= STALLED * (BOUND + BATCH_BYTES)
            memory = max(memory, process.memory_info().rss)
            at_the_bound = unsent > STALLED * BOUND
        await broker.disconnect()
        words = await asyncio.gather(*map(last_words, stalls))

        assert [reader.fault for reader in readers if reader.fault] == []
        assert {reader.next for reader in readers} == {sent}
        # Besides, the worker keeps 16 MiB of the log for who comes back; without the bound it would be much more.
        assert memory - before < 2**24 + STALLED * (BOUND + BATCH_BYTES) + 2**24
        closed = f'ws_closed_total{{code="{int(CloseCode.SLOW)}"}}'
        await eventually(lambda: metric(worker, closed) == STALLED, 60)
        if at_the_bound:  # who reads again in time is told why
            reason = CloseCode.SLOW.to_bytes(2, "big") + CloseCode.SLOW.reason.encode()
            assert any(reason in said for said in words)
        for reader in readers:
            reader.transport.abort()
