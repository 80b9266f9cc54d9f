"""The capacity model of scaling.md: how many of everything, from 1,000 to 1,000,000 connections.

    python docs/capacity.py                     the table, from docs/capacity.json
    python docs/capacity.py update RESULT.json  take the measured figures out of what `make compare` stored

The model is explained in scaling.md, which shows what this prints.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path

INPUTS = Path(__file__).with_name("capacity.json")
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
HEADINGS = (
    "connections",
    "messages/s in",
    "deliveries/s",
    "workers (what sets it)",
    "gateways (what sets it)",
    "Traefik, of each pass",
    "Redis shards (what sets it)",
    "out to clients",
    "out of Redis",
)


class Inputs(dict[str, float]):
    """Every input by its name: a mistyped one is a `KeyError`."""

    @classmethod
    def read(cls, path: Path = INPUTS) -> Inputs:
        groups = json.loads(path.read_text("utf-8"))
        return cls({name: float(entry["value"]) for group in groups.values() for name, entry in group.items()})


@dataclass(frozen=True)
class Number:
    """How many, and the limit that comes first."""

    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.count:,} ({self.reason})"


def first_limit(**needed: float) -> Number:
    """The largest need decides. At least one of everything."""
    reason, most = max(needed.items(), key=lambda need: need[1])
    return Number(max(1, ceil(most)), reason.replace("_", " "))


@dataclass(frozen=True)
class Plan:
    connections: int
    messages: float
    deliveries: float
    workers: Number
    gateways: Number
    traefiks: Number
    shards: Number
    client_gbit: float
    redis_gbit: float

    def cells(self) -> tuple[str, ...]:
        return (
            f"{self.connections:,}",
            f"{self.messages:,.0f}",
            f"{self.deliveries:,.0f}",
            str(self.workers),
            str(self.gateways),
            str(self.traefiks),
            str(self.shards),
            _rate(self.client_gbit),
            _rate(self.redis_gbit),
        )


def plan(connections: int, given: Inputs) -> Plan:
    """Without replicas for safety: what must not fail with a machine needs one more of each."""
    messages = connections / given["seconds_between_messages"]
    deliveries = messages * given["room_members"]
    handshakes = connections / given["connection_seconds"]

    # Every worker reads the whole log, because people of every room are on it; the rest is shared.
    reads = messages * given["cpu_us_per_message_read"] / 1e6
    shared = (
        deliveries * given["cpu_us_per_write"]
        + messages * given["cpu_us_per_message"]
        + handshakes * given["cpu_us_per_handshake"]
    ) / 1e6
    if reads >= given["busy"]:
        raise ValueError(f"{messages:,.0f} messages/s are more than one worker can read: split the log by region")
    workers = first_limit(
        connections=connections / given["connections_per_worker"],
        memory=connections * given["bytes_per_connection"] / given["worker_connection_bytes"],
        CPU=shared / (given["busy"] - reads),
    )
    gateways = first_limit(
        files=2 * connections / (given["open_files"] * given["spare"]),
        # All of a gateway's connections go to one address: that of the inner Traefik.
        ports=connections / (given["ephemeral_ports"] * given["spare"]),
        CPU=(
            deliveries * given["gateway_cpu_us_per_delivery"]
            + messages * given["gateway_cpu_us_per_delivery"]
            + handshakes * given["gateway_us_per_handshake"]
        )
        / 1e6
        / given["busy"],
    )
    # Everybody passes Traefik twice; these are the ones of one pass.
    traefiks = first_limit(
        files=2 * connections / (given["open_files"] * given["spare"]),
        CPU=deliveries * given["traefik_us_per_delivery"] / 1e6 / (given["busy"] * given["traefik_cores"]),
    )
    redis_bytes = messages * given["bytes_per_entry"] * workers.count
    redis_us = given["redis_us_per_message"] + given["redis_us_per_message_and_worker"] * workers.count
    shards = first_limit(
        CPU=messages * redis_us / 1e6 / given["busy"],
        network=redis_bytes * 8 / 1e9 / (given["node_gbit"] * given["busy"]),
    )
    if shards.count > given["max_shards_per_log"]:
        raise ValueError(f"{shards.count} shards: split the log by region")
    return Plan(
        connections,
        messages,
        deliveries,
        workers,
        gateways,
        traefiks,
        shards,
        deliveries * given["bytes_per_delivery"] * 8 / 1e9,
        redis_bytes * 8 / 1e9,
    )


def _rate(gbit: float) -> str:
    return f"{gbit:.1f} Gbit/s" if gbit >= 1 else f"{gbit * 1000:.0f} Mbit/s"


def table(given: Inputs) -> str:
    rows = [HEADINGS, ("---:",) * len(HEADINGS), *(plan(size, given).cells() for size in SIZES)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def inputs_table(path: Path = INPUTS) -> str:
    """Where each figure comes from."""
    groups = json.loads(path.read_text("utf-8"))
    rows = ["| input | value | from |", "|---|---:|---|"]
    for kind, group in groups.items():
        for name, entry in group.items():
            source = entry.get("from") or f"{'assumed' if kind == 'assumed' else 'limit'}: {entry['what']}"
            rows.append(f"| `{name}` | {entry['value']:,} | {source} |")
    return "\n".join(rows)


def update(result: Path, path: Path = INPUTS) -> list[str]:
    """Take the median of each figure that a comparison measured. Returns the names of those that it did."""
    measurements = json.loads(result.read_text("utf-8"))["measurements"]
    groups = json.loads(path.read_text("utf-8"))
    taken = []
    for name, entry in groups["measured"].items():
        contender, workload, figure = entry.get("compare", (None, None, None))
        values = [
            measured["figures"][figure]
            for measured in measurements
            if (measured["contender"], measured["workload"]) == (contender, workload) and figure in measured["figures"]
        ]
        if values:
            entry["value"] = round(statistics.median(values), 2)
            taken.append(name)
    lines = []
    for kind, group in groups.items():
        entries = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in group.items()]
        lines.append(f" {json.dumps(kind)}: {{\n" + ",\n".join(entries) + "\n }")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    return taken


def main(arguments: list[str]) -> int:
    match arguments:
        case []:
            print(table(Inputs.read()))
        case ["inputs"]:
            print(inputs_table())
        case ["update", result]:
            print(f"taken: {', '.join(update(Path(result))) or 'nothing'}")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
