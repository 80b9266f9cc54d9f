"""`Part`: what one process of the generator found, and how the parts of a run become one. Pure.

Every process has rooms of its own with all of their members, so its ledger is complete by itself and its judgement
stands: nothing has to be compared between processes, no latency rests on two clocks, and the whole is a sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from typing import Any

from .audit import EXAMPLES_PER_PAIR, Audit, Missing, Pair, natural
from .histogram import Histogram
from .verdict import Connections, Generator

SUMS = (
    *("sent", "acknowledged", "unrecovered", "foreign", "position_conflicts"),
    *("stale", "misrouted", "shared_positions"),
)
PAIR_SUMS = ("expected", "delivered", "duplicates", "out_of_order")


@dataclass(slots=True)
class Beat:
    """What happened in an interval of about a second; `at_seconds` is its end, counted from the first due message."""

    at_seconds: float
    sent: int
    acknowledged: int
    delivered: int
    same: Histogram
    other: Histogram
    generator_cpu: float
    machine_cpu: float

    def __str__(self) -> str:
        p99 = Histogram.merged((self.same, self.other)).percentile(0.99)
        return (
            f"{self.at_seconds:4.0f} s: {self.sent:,} sent, {self.delivered:,} delivered, p99 "
            + ("-" if p99 is None else f"{p99:,.0f} ms")
            + f"; generator {self.generator_cpu:.0%} of a core, machine {self.machine_cpu:.0%}"
        )


@dataclass(slots=True)
class Part:
    audit: Audit
    connections: Connections
    generator: Generator
    lag: Histogram = field(default_factory=Histogram)
    connect: Histogram = field(default_factory=Histogram)
    acknowledge: Histogram = field(default_factory=Histogram)
    timeline: list[Beat] = field(default_factory=list)


def merge(parts: Sequence[Part]) -> Part:
    """The sum. Of what the generator's processes used and how late they were, the worst counts."""
    return Part(
        audit=merge_audits([part.audit for part in parts]),
        connections=_merge_connections([part.connections for part in parts]),
        generator=Generator(
            cpu=max((part.generator.cpu for part in parts), default=0),
            lag_p99_ms=max((part.generator.lag_p99_ms for part in parts), default=0),
            skipped=sum(part.generator.skipped for part in parts),
            overdue=sum(part.generator.overdue for part in parts),
            died=[sentence for part in parts for sentence in part.generator.died],
        ),
        lag=Histogram.merged(part.lag for part in parts),
        connect=Histogram.merged(part.connect for part in parts),
        acknowledge=Histogram.merged(part.acknowledge for part in parts),
        timeline=[
            merge_beats([beat for beat in beats if beat is not None])
            for beats in zip_longest(*(part.timeline for part in parts))
        ],
    )


def merge_audits(audits: Sequence[Audit]) -> Audit:
    names = sorted({name for audit in audits for pair in audit.pairs for name in pair}, key=natural)
    whole = Audit(
        pairs={(origin, receiver): Pair(origin, receiver) for origin in names for receiver in names},
        **{name: sum(getattr(audit, name) for audit in audits) for name in SUMS},
        split_topics=[topic for audit in audits for topic in audit.split_topics],
    )
    for key, pair in ((key, pair) for audit in audits for key, pair in audit.pairs.items()):
        total = whole.pairs[key]
        for name in PAIR_SUMS:
            setattr(total, name, getattr(total, name) + getattr(pair, name))
        total.latency.add(pair.latency)
        total.examples = [*total.examples, *pair.examples][:EXAMPLES_PER_PAIR]
    return whole


def merge_beats(beats: Sequence[Beat]) -> Beat:
    """Of the same interval. Each process counts its seconds from its own beginning, which one message gave to all."""
    return Beat(
        at_seconds=max(beat.at_seconds for beat in beats),
        sent=sum(beat.sent for beat in beats),
        acknowledged=sum(beat.acknowledged for beat in beats),
        delivered=sum(beat.delivered for beat in beats),
        same=Histogram.merged(beat.same for beat in beats),
        other=Histogram.merged(beat.other for beat in beats),
        generator_cpu=max(beat.generator_cpu for beat in beats),
        machine_cpu=max(beat.machine_cpu for beat in beats),
    )


def _merge_connections(all_of_them: Sequence[Connections]) -> Connections:
    whole = Connections(users=0)
    for one in all_of_them:
        whole.users += one.users
        whole.joined += one.joined
        whole.by_worker.update(one.by_worker)
        whole.rooms_missing |= one.rooms_missing
        whole.refused.update(one.refused)
        whole.lost.update(one.lost)
        whole.errors.update(one.errors)
        whole.returned += one.returned
        whole.returned_to_same += one.returned_to_same
    return whole


# As a message: plain lists, dicts, numbers and texts.


def pack(part: Part) -> dict[str, Any]:
    audit = part.audit
    return {
        "audit": {
            **{name: getattr(audit, name) for name in (*SUMS, "split_topics")},
            "pairs": [
                {
                    **{name: getattr(pair, name) for name in ("origin", "receiver", *PAIR_SUMS)},
                    "latency": pair.latency.counts,
                    "examples": [_plain(missing) for missing in pair.examples],
                }
                for pair in audit.pairs.values()
            ],
        },
        "connections": _plain(part.connections),
        "generator": _plain(part.generator),
        **{name: getattr(part, name).counts for name in ("lag", "connect", "acknowledge")},
        "timeline": [pack_beat(beat) for beat in part.timeline],
    }


def unpack(message: Mapping[str, Any]) -> Part:
    """Raises `KeyError` and `TypeError` for what `pack` did not make."""
    given = dict(message["audit"])
    pairs = [
        Pair(
            **{
                **pair,
                "latency": _histogram(pair["latency"]),
                "examples": [Missing(**missing) for missing in pair["examples"]],
            }
        )
        for pair in given.pop("pairs")
    ]
    connections: dict[str, Any] = {
        name: Counter(value) if name in ("by_worker", "refused", "lost", "errors") else value
        for name, value in message["connections"].items()
    }
    return Part(
        audit=Audit(pairs={(pair.origin, pair.receiver): pair for pair in pairs}, **given),
        connections=Connections(**connections),
        generator=Generator(**message["generator"]),
        lag=_histogram(message["lag"]),
        connect=_histogram(message["connect"]),
        acknowledge=_histogram(message["acknowledge"]),
        timeline=[unpack_beat(beat) for beat in message["timeline"]],
    )


def pack_beat(beat: Beat) -> dict[str, Any]:
    return {**_plain(beat), "same": beat.same.counts, "other": beat.other.counts}


def unpack_beat(message: Mapping[str, Any]) -> Beat:
    return Beat(**{**message, "same": _histogram(message["same"]), "other": _histogram(message["other"])})


def _plain(one: Beat | Connections | Generator | Missing) -> dict[str, Any]:
    values = ((each.name, getattr(one, each.name)) for each in fields(one))
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values}


def _histogram(counts: Mapping[int, int]) -> Histogram:
    whole = Histogram()
    whole.counts.update(counts)
    return whole
