"""500 subscribers of a real worker at a high rate; in every other round 50 of them have stopped reading.

What the others notice of it: p99 with and without, and their ratio. A stalled client that was closed comes back, and
stalls again. A round in which this program used more than 80 % of a core is invalid: it measured itself.

    PYTHONPATH=src:. python benchmarks/slow_clients.py [--seconds 60] [--rounds 3] [--rate 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psutil

from distributed_websocket import CloseCode
from distributed_websocket.brokers import RedisBroker
from distributed_websocket.brokers.interface import Record
from tests.processes import Running, service
from tests.redis_server import RedisServer
from tests.service import load
from tests.subscribers import Reader, body, is_connected, reading, stalled

SECRET = "a-secret-of-a-benchmark-that-nobody-else-uses"
UNSENT_BYTES = 1024 * 1024
BODY_BYTES = 120
TICK_SECONDS = 0.01
WARM_SECONDS = 1.0
DRAIN_SECONDS = 30.0
MOST_CLIENT_CPU = 0.8


class Latencies:
    """Of every delivery, from when its message was due. Steps of 0.1 ms."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        step = max(0, int(seconds * 10_000))
        self._counts[step] = self._counts.get(step, 0) + 1

    def quantile_ms(self, share: float) -> float:
        left = share * sum(self._counts.values())
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return (step + 1) / 10
        return float("nan")


class Timeline:
    """When each message is due: published late, it counts as late."""

    def __init__(self, rate: float) -> None:
        self.start = float("inf")
        self.latencies = Latencies()
        self._rate = rate

    def due(self, number: int) -> float:
        return self.start + number / self._rate

    def count_by(self, now: float) -> int:
        return max(0, int((now - self.start) * self._rate) + 1) if now >= self.start else 0

    def note(self, first: int, count: int) -> None:
        """Some messages have just come."""
        now, measured_from = time.monotonic(), self.start + WARM_SECONDS
        for number in range(first, first + count):
            due = self.due(number)
            if due >= measured_from:
                self.latencies.add(now - due)


@dataclass
class Stalls:
    """The clients that do not read."""

    port: int
    topic: str
    clients: list[socket.socket] = field(default_factory=list)
    closed: int = 0
    refused: int = 0
    _number: int = 0

    async def keep(self, count: int) -> None:
        """Open what is missing, again and again, until cancelled."""
        while True:
            gone = [client for client in self.clients if not is_connected(client)]
            for client in gone:
                client.close()
            self.clients = [client for client in self.clients if client not in gone]
            self.closed += len(gone)
            while len(self.clients) < count:
                self._number += 1
                try:
                    self.clients.append(await stalled(self.port, 100_000 + self._number, self.topic, SECRET))
                except (OSError, TimeoutError):
                    self.refused += 1
                    break
            await asyncio.sleep(0.2)

    def leave(self) -> None:
        for client in self.clients:
            client.close()


def metric(worker: Running, sample: str) -> float:
    with urllib.request.urlopen(worker.http + "/metrics", timeout=30) as answer:
        found = re.search(rf"^{re.escape(sample)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def sample(worker: Running, into: list[dict[str, float]]) -> None:
    """The worker's memory, and what it holds for its clients, each half second."""
    process, start = psutil.Process(worker.process.pid), time.monotonic()
    while True:
        unsent = await asyncio.to_thread(metric, worker, "ws_unsent_bytes")
        into.append(
            {
                "second": round(time.monotonic() - start, 1),
                "rss_mib": round(process.memory_info().rss / 2**20, 1),
                "unsent_mib": round(unsent / 2**20, 2),
            }
        )
        await asyncio.sleep(0.5)


async def publish(url: str, topic: str, timeline: Timeline, count: int) -> None:
    broker = RedisBroker(url, shard_levels=load("log").SHARD_LEVELS)
    sent = 0
    while sent < count:
        until = min(count, timeline.count_by(time.monotonic()))
        if until > sent:
            records = [Record(topic, body(topic, number, BODY_BYTES)) for number in range(sent, until)]
            await broker.append("chat", broker.shard_of(topic), records)
            sent = until
        await asyncio.sleep(TICK_SECONDS)
    await broker.disconnect()


async def one_round(
    worker: Running, url: str, number: int, stalling: bool, options: argparse.Namespace
) -> dict[str, Any]:
    port = urlsplit(worker.http).port
    assert port is not None
    topic = f"room/{number}"
    timeline = Timeline(options.rate)
    nobody = Timeline(options.rate)  # those who stall in the other rounds are not counted in this one either
    readers: list[Reader] = []
    for client in range(options.clients - (options.stalled if stalling else 0)):
        noted = timeline if client < options.clients - options.stalled else nobody
        readers.append(await reading(port, client, topic, SECRET, noted.note))
    stalls = Stalls(port, topic)
    keeping = asyncio.create_task(stalls.keep(options.stalled if stalling else 0))
    while stalling and len(stalls.clients) < options.stalled:  # noqa: ASYNC110 - many make it true
        await asyncio.sleep(0.05)
    samples: list[dict[str, float]] = []
    sampling = asyncio.create_task(sample(worker, samples))
    slow = f'ws_closed_total{{code="{int(CloseCode.SLOW)}"}}'
    closed_before = await asyncio.to_thread(metric, worker, slow)
    process = psutil.Process(worker.process.pid)

    count = int(options.rate * (WARM_SECONDS + options.seconds))
    cpu, began, workers_cpu = time.process_time(), time.monotonic(), sum(process.cpu_times()[:2])
    timeline.start = nobody.start = began + 0.1
    await publish(url, topic, timeline, count)
    seconds = time.monotonic() - began
    cpu, workers_cpu = (time.process_time() - cpu) / seconds, (sum(process.cpu_times()[:2]) - workers_cpu) / seconds
    deadline = time.monotonic() + DRAIN_SECONDS
    while any(one.next < count and not one.fault for one in readers) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)

    # Those that were told last are cut off a few seconds later; then all are counted.
    closed = await asyncio.to_thread(metric, worker, slow) - closed_before
    for task in (keeping, sampling):
        task.cancel()
    await asyncio.gather(keeping, sampling, return_exceptions=True)
    faults = [
        f"client {n}: {r.fault or f'{r.next} of {count} messages'}"
        for n, r in enumerate(readers)
        if r.fault or r.next < count
    ]
    stalls.leave()
    for reader in readers:
        reader.transport.abort()
    return {
        "stalled": options.stalled if stalling else 0,
        "p50_ms": timeline.latencies.quantile_ms(0.5),
        "p99_ms": timeline.latencies.quantile_ms(0.99),
        "deliveries_per_second": round(sum(reader.next for reader in readers) / seconds),
        "worker_cpu": round(workers_cpu, 2),
        "client_cpu": round(cpu, 2),
        "valid": cpu <= MOST_CLIENT_CPU,
        "closed_as_slow": int(closed),
        "refused": stalls.refused,
        "most_unsent_mib": max(one["unsent_mib"] for one in samples),
        "most_rss_mib": max(one["rss_mib"] for one in samples),
        "faults": faults[:5],
        "samples": samples,
    }


async def measure(worker: Running, url: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    rounds: list[dict[str, Any]] = []
    for number in range(2 * options.rounds):
        found = await one_round(worker, url, number, number % 2 == 1, options)
        rounds.append(found)
        shown = {name: value for name, value in found.items() if name != "samples"}
        print(" ".join(f"{name}={value}" for name, value in shown.items()), flush=True)
        step = max(1, len(found["samples"]) // 12)
        print(
            "  memory over time, MiB:", *(f"{one['second']:g}s:{one['rss_mib']:g}" for one in found["samples"][::step])
        )
    return rounds


def judge(rounds: list[dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """The table's last lines, each with what was wanted."""
    without, with_stalls = ([one for one in rounds if bool(one["stalled"]) is stalling] for stalling in (False, True))
    plain, stalling = (median(one["p99_ms"] for one in group) for group in (without, with_stalls))
    # Beyond the bound a client is written to once more at most, and a write is a batch.
    bound = options.stalled * UNSENT_BYTES / 2**20
    unsent = max(one["most_unsent_mib"] for one in with_stalls)
    return [
        f"p99 of the others: {plain:.1f} ms without, {stalling:.1f} ms with {options.stalled} stalled; "
        f"ratio {stalling / plain:.2f} (wanted: at most 1.10)",
        f"unsent for all clients: at most {unsent:.1f} MiB (bound: {bound:g} MiB and a batch for each)",
        f"memory: at most {max(one['most_rss_mib'] for one in with_stalls):.0f} MiB with, "
        f"{max(one['most_rss_mib'] for one in without):.0f} MiB without",
        f"closed with {int(CloseCode.SLOW)} ({CloseCode.SLOW.reason}), by round: "
        + ", ".join(str(one["closed_as_slow"]) for one in with_stalls),
    ]


@contextlib.contextmanager
def a_worker(folder: Path) -> Iterator[tuple[Running, str]]:
    """Alone on the first core; this program and Redis have the others."""
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[1:])
        redis = RedisServer(folder, "--appendfsync", "everysec")
        redis.start()
        stack.callback(redis.stop)
        settings = {
            "CHAT_TOKEN_SECRET": SECRET,
            "CHAT_BROKER_URL": redis.url,
            "CHAT_MAX_UNSENT_BYTES": str(UNSENT_BYTES),
            "CHAT_PING_INTERVAL_SECONDS": "300",
        }
        worker = stack.enter_context(service("chat", folder, settings))
        psutil.Process(worker.process.pid).cpu_affinity(cores[:1])
        yield worker, redis.url


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of each round, 280 at most: nobody answers pings")
    parser.add_argument("--rounds", type=int, default=3, help="of each kind")
    parser.add_argument("--rate", type=float, default=1000, help="messages a second")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--stalled", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write everything there")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as name, a_worker(Path(name)) as (worker, url):
        rounds = asyncio.run(measure(worker, url, options))
    print("\n".join(judge(rounds, options)))
    if options.json:
        options.json.write_text(json.dumps({"settings": {**vars(options), "json": None}, "rounds": rounds}, indent=1))
    if not all(one["valid"] for one in rounds):
        print("invalid: this program was the bottleneck; lower --rate", file=sys.stderr)
    return 1 if any(one["faults"] or not one["valid"] for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
