"""`Report`: everything that a run found, as JSON. Pure, but for `write_json`.

The types below are the file's schema. Times in it are milliseconds from the intended send to the receipt, unless the
name says something else; shares are of one core (generator) or of the whole machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from .audit import Audit, Pair
from .histogram import Histogram
from .pages import document
from .verdict import Connections, Generator, Verdict

SCHEMA = 2
"""Grows when a field changes its meaning or goes."""


class Percentiles(TypedDict):
    """`None` where nothing was counted."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    p99_9: float | None
    max: float | None


class Latency(Percentiles):
    histogram: list[tuple[float, int]]
    """(upper edge of the bucket in ms, count), ascending, without the empty ones."""


class MissingMessage(TypedDict):
    message: int
    position: str
    topic: str
    user: str


class MatrixCell(TypedDict):
    """From the clients of one worker to those of another. Counted are deliveries: one message to one receiver."""

    origin: str
    receiver: str
    expected: int
    delivered: int
    missing: int
    duplicates: int
    out_of_order: int
    latency: Percentiles
    missing_examples: list[MissingMessage]


class Second(TypedDict):
    """One interval of the run, about a second long; `at_seconds` is its end, counted from the first due message."""

    at_seconds: float
    sent: int
    acknowledged: int
    delivered: int
    same_worker: Percentiles
    other_worker: Percentiles
    generator_cpu: float
    machine_cpu: float


class ProcessSecond(TypedDict):
    at_seconds: float
    """Since the sending began."""
    cpu: float
    """Share of one core since the last time."""
    memory_bytes: int
    """Resident."""
    connections: int | None
    """Open ones of clients; of Redis, those of the workers and gateways. `None` where it did not say."""
    messages: float | None
    """Written to clients, per second; `None` for processes that do not."""


class ProcessSeries(TypedDict):
    name: str
    seconds: list[ProcessSecond]


class ProcessFigures(TypedDict):
    note: str
    """Why nothing was measured; empty where it was."""
    series: list[ProcessSeries]


class Totals(TypedDict):
    sent: int
    acknowledged: int
    skipped: int
    """Messages that were due while their sender had no connection."""
    overdue: int
    """Messages that were due and that the generator did not get to."""
    expected: int
    delivered: int
    ratio: float | None
    missing: int
    duplicates: int
    out_of_order: int
    stale: int
    misrouted: int
    foreign: int
    position_conflicts: int
    shared_positions: int
    split_topics: int
    unrecovered: int


class ConnectionFigures(TypedDict):
    users: int
    joined: int
    by_worker: dict[str, int]
    rooms_missing: dict[str, list[str]]
    refused: dict[str, int]
    lost: dict[str, int]
    errors: dict[str, int]
    returned: int
    returned_to_same_worker: int
    sticky_ratio: float | None


class GeneratorFigures(TypedDict):
    cpu: float
    lag_ms: Percentiles


class VerdictText(TypedDict):
    outcome: str
    """passed, failed, invalid or interrupted."""
    reasons: list[str]
    notes: list[str]


class Report(TypedDict):
    schema: int
    verdict: VerdictText
    started_at: str
    """ISO 8601, UTC."""
    workers: list[str]
    """Those that had to take part."""
    settings: dict[str, str | int | float]
    versions: dict[str, str]
    machine: dict[str, str | int]
    totals: Totals
    matrix: list[MatrixCell]
    same_worker: Latency
    other_worker: Latency
    connect: Percentiles
    """From the first byte sent until `welcome`."""
    acknowledge: Percentiles
    connections: ConnectionFigures
    generator: GeneratorFigures
    timeline: list[Second]
    processes: ProcessFigures


def build(
    *,
    verdict: Verdict,
    audit: Audit,
    connections: Connections,
    generator: Generator,
    lag: Histogram,
    connect: Histogram,
    acknowledge: Histogram,
    timeline: list[Second],
    processes: ProcessFigures,
    started_at: str,
    workers: list[str],
    settings: dict[str, str | int | float],
    versions: dict[str, str],
    machine: dict[str, str | int],
) -> Report:
    return Report(
        schema=SCHEMA,
        verdict=VerdictText(outcome=verdict.outcome, reasons=verdict.reasons, notes=verdict.notes),
        started_at=started_at,
        workers=workers,
        settings=settings,
        versions=versions,
        machine=machine,
        totals=Totals(
            sent=audit.sent,
            acknowledged=audit.acknowledged,
            skipped=generator.skipped,
            overdue=generator.overdue,
            expected=audit.expected,
            delivered=audit.delivered,
            ratio=audit.ratio,
            missing=audit.missing,
            duplicates=audit.duplicates,
            out_of_order=audit.out_of_order,
            stale=audit.stale,
            misrouted=audit.misrouted,
            foreign=audit.foreign,
            position_conflicts=audit.position_conflicts,
            shared_positions=audit.shared_positions,
            split_topics=len(audit.split_topics),
            unrecovered=audit.unrecovered,
        ),
        matrix=matrix(audit),
        same_worker=latency(audit, same_worker=True),
        other_worker=latency(audit, same_worker=False),
        connect=percentiles(connect),
        acknowledge=percentiles(acknowledge),
        connections=ConnectionFigures(
            users=connections.users,
            joined=connections.joined,
            by_worker=dict(sorted(connections.by_worker.items())),
            rooms_missing=connections.rooms_missing,
            refused=dict(connections.refused),
            lost=dict(connections.lost),
            errors=dict(connections.errors),
            returned=connections.returned,
            returned_to_same_worker=connections.returned_to_same,
            sticky_ratio=connections.sticky_ratio,
        ),
        generator=GeneratorFigures(cpu=round(generator.cpu, 3), lag_ms=percentiles(lag)),
        timeline=timeline,
        processes=processes,
    )


def percentiles(histogram: Histogram) -> Percentiles:
    return Percentiles(
        count=len(histogram),
        p50=histogram.percentile(0.5),
        p95=histogram.percentile(0.95),
        p99=histogram.percentile(0.99),
        p99_9=histogram.percentile(0.999),
        max=histogram.percentile(1),
    )


def write_json(report: object, path: Path) -> None:
    """Replace the file in one step: a reader sees the old report or the new one."""
    document.write(json.dumps(report, indent=1, ensure_ascii=False) + "\n", path)


def _cell(pair: Pair) -> MatrixCell:
    return MatrixCell(
        origin=pair.origin,
        receiver=pair.receiver,
        expected=pair.expected,
        delivered=pair.delivered,
        missing=pair.missing,
        duplicates=pair.duplicates,
        out_of_order=pair.out_of_order,
        latency=percentiles(pair.latency),
        missing_examples=[
            MissingMessage(message=one.message, position=one.position, topic=one.topic, user=one.user)
            for one in pair.examples
        ],
    )


def matrix(audit: Audit) -> list[MatrixCell]:
    return [_cell(pair) for pair in audit.pairs.values()]


def latency(audit: Audit, *, same_worker: bool) -> Latency:
    histogram = audit.latency(same_worker=same_worker)
    return Latency(**percentiles(histogram), histogram=histogram.buckets())
