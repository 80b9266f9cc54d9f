"""The schema of a saturation run's file. Times are milliseconds, unless the name says something else."""

from __future__ import annotations

from typing import TypedDict

from ..report import Percentiles, ProcessFigures

SCHEMA = 2
"""Grows when a field changes its meaning or goes."""


class Step(TypedDict):
    rate: float
    """Messages per second that were due."""
    at_seconds: float
    """When its first message was due, since the first step's."""
    sent: int
    acknowledged: int
    sent_per_second: float
    delivered_per_second: float
    expected: int
    """Deliveries, warm-up included, as are those below."""
    delivered: int
    ratio: float | None
    duplicates: int
    out_of_order: int
    otherwise_wrong: int
    """Deliveries of another topic, of no message of this run, from before the subscription, or at the position of
    another message."""
    unrecovered: int
    """Clients that came back and were told of a hole."""
    overdue: int
    """Messages that were due and that the generator did not get to."""
    disturbances: int
    """Connections lost, handshakes that failed, errors answered."""
    latency: Percentiles
    """Without the warm-up; from when a message was due, to any worker."""
    same_worker: Percentiles
    other_worker: Percentiles
    generator_cpu: float
    generator_lag_p99_ms: float
    machine_cpu: float
    outcome: str
    """held, slow, broken or generator."""
    reason: str


class Knee(TypedDict):
    outcome: str
    """knee, no knee, failed, invalid or interrupted."""
    sentence: str
    held_rate: float | None
    """The highest rate at which everything held, messages per second."""
    broke_rate: float | None
    """The rate of the step that did not hold."""


class SaturationReport(TypedDict):
    schema: int
    knee: Knee
    started_at: str
    """ISO 8601, UTC."""
    settings: dict[str, str | int | float]
    versions: dict[str, str]
    machine: dict[str, str | int]
    by_worker: dict[str, int]
    steps: list[Step]
    processes: ProcessFigures
