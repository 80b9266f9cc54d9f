"""The workloads, as data: what is opened, what is asked of it, and which figures come out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .load_client import Load


class Kind(StrEnum):
    SEARCH = "search"
    """The highest rate that holds."""
    FIXED = "fixed"
    """One rate."""
    IDLE = "idle"
    STORM = "storm"


@dataclass(frozen=True)
class Figure:
    """One column of the results: the value by `name` in a measurement."""

    name: str
    heading: str
    digits: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    kind: Kind
    load: Load
    figures: tuple[Figure, ...]
    """The first is the one that contenders are compared by."""
    start: float = 20.0
    """Messages a second at which a search begins, or the fixed rate."""
    least: float = 1.0
    p99_limit_ms: float = 100.0
    higher_is_better: bool = True
    gateway: bool = False
    """The contenders are gateways; the worker behind them is on the client's core, so that the gateway has its own."""


DELIVERIES = Figure("deliveries_per_second", "deliveries/s")
MESSAGES = Figure("messages_per_second", "messages/s in")
P50 = Figure("p50_ms", "p50 ms", 1)
P95 = Figure("p95_ms", "p95 ms", 1)
P99 = Figure("p99_ms", "p99 ms", 1)
CPU = Figure("cpu_us_per_delivery", "CPU µs per delivery", 2)
WRITES = Figure("deliveries_per_write", "deliveries per write", 1)
CLIENT = Figure("client_cpu", "client's CPU %", 0, 100)

WORKLOADS = (
    Workload(
        "one_room",
        "One room: 500 subscribers, 10 of them publish; the highest rate that holds p99 ≤ 100 ms",
        Kind.SEARCH,
        Load(connections=500, rooms=1, publishers=10),
        (DELIVERIES, P50, P95, P99, CPU, WRITES, CLIENT),
    ),
    Workload(
        "one_room_50k",
        "One room of 500 at 50,000 deliveries/s: every message is a write of its own",
        Kind.FIXED,
        Load(connections=500, rooms=1, publishers=10),
        (P99, P50, P95, DELIVERIES, CPU, WRITES, CLIENT),
        start=100.0,
        higher_is_better=False,
    ),
    Workload(
        "many_rooms",
        "Many rooms: 1,000 connections in 100 rooms, one of ten publishes; the highest rate that holds p99 ≤ 100 ms",
        Kind.SEARCH,
        Load(connections=1000, rooms=100, publishers=100),
        (MESSAGES, DELIVERIES, P50, P95, P99, CPU, WRITES, CLIENT),
        start=500.0,
    ),
    Workload(
        "big_room",
        "Big room: 9,000 connections, 10 of them publish; the highest rate that holds p99 ≤ 1 s "
        "(one bare pass over 9,000 sockets takes most of 100 ms already)",
        Kind.SEARCH,
        Load(connections=9000, rooms=1, publishers=10),
        (DELIVERIES, P50, P95, P99, CPU, WRITES, CLIENT),
        start=2.0,
        least=0.5,
        p99_limit_ms=1000.0,
    ),
    Workload(
        "idle_1000",
        "Idle: 1,000 connections in 100 rooms",
        Kind.IDLE,
        Load(connections=1000, rooms=100, publishers=100),
        (Figure("bytes_per_connection", "KiB per connection", 1, 1 / 1024), Figure("cpu", "CPU % of a core", 2, 100)),
        higher_is_better=False,
    ),
    Workload(
        "idle_9000",
        "Idle: 9,000 connections in 900 rooms",
        Kind.IDLE,
        Load(connections=9000, rooms=900, publishers=900),
        (Figure("bytes_per_connection", "KiB per connection", 1, 1 / 1024), Figure("cpu", "CPU % of a core", 2, 100)),
        higher_is_better=False,
    ),
    Workload(
        "storm",
        "Storm: 3,000 clients come at once, 64 handshakes at a time",
        Kind.STORM,
        Load(connections=3000, rooms=100, publishers=0),
        (
            Figure("handshakes_per_second", "handshakes/s"),
            Figure("cpu_us_per_handshake", "CPU µs per handshake"),
            CLIENT,
        ),
    ),
    Workload(
        "gateway",
        "Through the gateway, one room of 500: the highest rate that holds p99 ≤ 100 ms",
        Kind.SEARCH,
        Load(connections=500, rooms=1, publishers=10),
        (DELIVERIES, Figure("deliveries_per_core", "deliveries/s per gateway core"), P50, P95, P99, CPU, CLIENT),
        gateway=True,
    ),
    Workload(
        "gateway_10k",
        "Through the gateway, one room of 500 at 10,000 deliveries/s: every message comes alone",
        Kind.FIXED,
        Load(connections=500, rooms=1, publishers=10),
        (CPU, P50, P95, P99, DELIVERIES, CLIENT),
        start=20.0,
        higher_is_better=False,
        gateway=True,
    ),
    Workload(
        "gateway_unloaded",
        "Through the gateway, two clients, 100 messages/s",
        Kind.FIXED,
        Load(connections=2, rooms=1, publishers=1),
        (Figure("p50_ms", "p50 ms", 3), Figure("p99_ms", "p99 ms", 3)),
        start=100.0,
        higher_is_better=False,
        gateway=True,
    ),
)
