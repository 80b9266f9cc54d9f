"""A row for each fault, and the verdict on all of them. Pure.

The types below are the schema of the file. Times in it are milliseconds, unless the name says something else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from ..audit import Audit
from ..report import Latency, MatrixCell, ProcessFigures, Second
from .schedule import FaultName
from .witness import Tally

SCHEMA = 2
"""Grows when a field changes its meaning or goes."""
EXAMPLES = 5
"""Missing messages that are named in a row."""
LATE_SECONDS = 5
"""All who were asked to leave must be back so long after the time that they were given."""
MAX_EXCESS = 0.2
"""Of the new connections of a second, while workers are rolled."""
MAX_SAID_LATE_MS = 250
"""Where the crowd itself was later (99th percentile), the machine was too busy to judge how fast anything was."""
FEWEST_HANDSHAKES = 40
"""In a second with fewer, nothing is said about how they were spread: one client would be several percent."""


class Back(TypedDict):
    """The longest that each client who was hit had to wait for anything: to be connected again with all that it missed,
    for an ack, or for a message that was acknowledged. `None` where nobody was hit."""

    p50: float | None
    p99: float | None
    max: float | None


class MissingMessage(TypedDict):
    position: str
    topic: str
    user: str


class FaultRow(TypedDict):
    fault: str
    target: str
    """The process that was struck; empty where it was all of them, or clients."""
    at_seconds: float
    """Since the first fault was prepared."""
    lasted_seconds: float
    """From the strike until all was as before."""
    hit: int
    """Clients: those whom the fault was meant for, and all others who lost their connection."""
    lost_connection: int
    """Clients of them who did."""
    not_back: int
    back_ms: Back
    sent: int
    acknowledged: int
    lost: int
    """Deliveries: acknowledged messages that a client never got."""
    duplicated: int
    out_of_order: int
    recovered: int
    """Times that a client came back and was brought up to date."""
    unrecovered: int
    """Times that it was told of a hole instead."""
    drain_seconds: float | None
    """The time over which the workers asked their clients to leave; `None` where none did."""
    busiest_worker_excess: float | None
    """While the workers are rolled: how much more than its share of the new connections of any second a worker got at
    most, 0.2 is 20 %. One of the workers is always down. `None` where no second had enough new connections."""
    missing_examples: list[MissingMessage]
    closes: dict[str, int]
    refused: dict[str, int]
    errors: dict[str, int]
    problems: list[str]
    """What went wrong beside the messages."""


class VerdictText(TypedDict):
    outcome: str
    """passed, failed or interrupted."""
    reasons: list[str]
    notes: list[str]
    """What the reader should know, whatever the outcome."""


class ChaosReport(TypedDict):
    schema: int
    verdict: VerdictText
    started_at: str
    """ISO 8601, UTC."""
    settings: dict[str, str | int | float | bool]
    rows: list[FaultRow]
    sent: int
    acknowledged: int
    expected: int
    delivered: int
    said_late_p99_ms: float | None
    """How late the crowd itself was (99th percentile)."""
    versions: dict[str, str]
    machine: dict[str, str | int]
    matrix: list[MatrixCell]
    same_worker: Latency
    other_worker: Latency
    """From when a message was due; what came late because its receiver was away counts from then too."""
    timeline: list[Second]
    """`at_seconds` as in the rows."""
    processes: ProcessFigures


class Difference:
    """What an audit says more than the one before it: so much came of one fault."""

    def __init__(self, before: Audit | None, after: Audit) -> None:
        self.sent = after.sent - (before.sent if before else 0)
        self.acknowledged = after.acknowledged - (before.acknowledged if before else 0)
        self.lost = after.missing - (before.missing if before else 0)
        self.duplicated = after.duplicates - (before.duplicates if before else 0)
        self.out_of_order = after.out_of_order - (before.out_of_order if before else 0)
        self.unrecovered = after.unrecovered - (before.unrecovered if before else 0)
        self.other = after.otherwise_wrong - (before.otherwise_wrong if before else 0)
        first = before.sent if before else 0
        missing = [one for pair in after.pairs.values() for one in pair.examples if one.message >= first]
        self.examples = sorted(missing, key=lambda one: one.message)[:EXAMPLES]


def row(
    *,
    fault: str,
    target: str,
    at_seconds: float,
    lasted_seconds: float,
    waits_ms: Sequence[float],
    lost_connection: int,
    not_back: int,
    difference: Difference,
    tally: Tally,
    workers: int,
    is_roll: bool,
    problems: Sequence[str],
) -> FaultRow:
    """`waits_ms` has one for each client who was hit, ascending."""
    wrong = [f"deliveries that are wrong in another way: {difference.other:,}"] if difference.other else []
    return FaultRow(
        fault=fault,
        target=target,
        at_seconds=round(at_seconds, 1),
        lasted_seconds=round(lasted_seconds, 1),
        hit=len(waits_ms),
        lost_connection=lost_connection,
        not_back=not_back,
        back_ms=Back(p50=percentile(waits_ms, 0.5), p99=percentile(waits_ms, 0.99), max=percentile(waits_ms, 1)),
        sent=difference.sent,
        acknowledged=difference.acknowledged,
        lost=difference.lost,
        duplicated=difference.duplicated,
        out_of_order=difference.out_of_order,
        recovered=tally.recovered,
        unrecovered=difference.unrecovered,
        drain_seconds=tally.drain_seconds,
        busiest_worker_excess=busiest_worker_excess(tally.handshakes, workers - 1) if is_roll else None,
        missing_examples=[
            MissingMessage(position=one.position, topic=one.topic, user=one.user) for one in difference.examples
        ],
        closes=dict(tally.closes),
        refused=dict(tally.refused),
        errors=dict(tally.errors),
        problems=[*problems, *wrong, *(f"{what} ({count:,})" for what, count in tally.unreadable.items())],
    )


def percentile(ascending: Sequence[float], fraction: float) -> float | None:
    """By nearest rank; `None` of nothing."""
    return round(ascending[max(1, math.ceil(fraction * len(ascending))) - 1], 1) if ascending else None


def busiest_worker_excess(handshakes: Sequence[tuple[int, str]], workers: int) -> float | None:
    """Over every second that ends with a handshake: the most that one of the workers got, beyond its even share."""
    worst: float | None = None
    begin = 0
    ordered = sorted(handshakes)
    counts: dict[str, int] = {}
    for at_ns, worker in ordered:
        counts[worker] = counts.get(worker, 0) + 1
        while ordered[begin][0] <= at_ns - 1_000_000_000:
            counts[ordered[begin][1]] -= 1
            begin += 1
        total = sum(counts.values())
        if total >= FEWEST_HANDSHAKES:
            excess = round(max(counts.values()) * workers / total - 1, 3)
            worst = excess if worst is None else max(worst, excess)
    return worst


def judge(
    rows: Sequence[FaultRow],
    planned: Sequence[str],
    *,
    troubles: Sequence[str] = (),
    said_late_p99_ms: float | None = None,
    interrupted: bool = False,
) -> VerdictText:
    """`planned` are the faults that should have struck, `rows` those that did; `troubles` belong to none of them."""
    reasons = list(troubles)
    notes: list[str] = []
    too_busy = said_late_p99_ms is not None and said_late_p99_ms > MAX_SAID_LATE_MS
    for one in rows:
        reasons += [f"{one['fault']}: {reason}" for reason in _reasons(one)]
        (notes if too_busy else reasons).extend(f"{one['fault']}: {reason}" for reason in _slowness(one))
        if one["fault"] == FaultName.ROLL_WORKERS and one["busiest_worker_excess"] is None:
            notes.append(
                f"{one['fault']}: no second had {FEWEST_HANDSHAKES} new connections, too few to judge how evenly they "
                "were spread over the workers: have more clients"
            )
    if too_busy:
        notes.append(
            f"the clients spoke up to {said_late_p99_ms:,.0f} ms late (p99): this machine was too busy to judge times"
        )
    for fault in planned[len(rows) :]:
        reasons.append(f"{fault}: did not happen")
    outcome = "interrupted" if interrupted else "failed" if reasons else "passed"
    return VerdictText(outcome=outcome, reasons=reasons, notes=notes)


def _reasons(one: FaultRow) -> list[str]:
    reasons = list(one["problems"])
    if not one["hit"]:
        reasons.append("it hit nobody")
    if one["not_back"]:
        reasons.append(f"{one['not_back']:,} clients are not back")
    if not one["sent"]:
        reasons.append("nothing was sent meanwhile")
    if one["lost"]:
        examples = [f"{m['topic']} {m['position']} for {m['user']}" for m in one["missing_examples"]]
        more = ", …" if one["lost"] > len(examples) else ""
        reasons.append(f"{one['lost']:,} deliveries lost: {', '.join(examples)}{more}")
    for count, what in (
        (one["duplicated"], "delivered more than once"),
        (one["out_of_order"], "after a later message"),
        (one["sent"] - one["acknowledged"], "messages never acknowledged"),
        (one["unrecovered"], "clients were told of a hole (`recovered: false`)"),
    ):
        if count:
            reasons.append(f"{what}: {count:,}")
    return reasons


def _slowness(one: FaultRow) -> list[str]:
    reasons = []
    longest, drain, excess = one["back_ms"]["max"], one["drain_seconds"], one["busiest_worker_excess"]
    if longest is not None and drain is not None and longest > 1000 * (drain + LATE_SECONDS):
        reasons.append(f"the last client was back after {longest / 1000:.1f} s, asked for was {drain:g} s")
    if excess is not None and excess > MAX_EXCESS:
        reasons.append(f"a worker got its share {excess:+.0%} of the new connections of a second")
    return reasons
