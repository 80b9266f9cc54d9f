"""`judge`: passed, failed or invalid, and why, in sentences. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from .audit import Audit, Pair

MAX_CPU = 0.9
"""Share of one core above which a process of the generator is the bottleneck."""

MAX_LAG_SHARE = 0.25
"""How much of the latency threshold the generator's own lag may use up (99th percentile)."""


FORBIDDEN = frozenset({"HTTP 401", "HTTP 403"})
"""Handshakes that end like this end like this again."""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    INVALID = "invalid"
    """The generator was the bottleneck: the figures say nothing about the service."""
    INTERRUPTED = "interrupted"

    @property
    def exit_code(self) -> int:
        return {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.INVALID: 3, Outcome.INTERRUPTED: 130}[self]


@dataclass(slots=True)
class Connections:
    """What became of the connections. Workers are names."""

    users: int
    joined: int = 0
    by_worker: Counter[str] = field(default_factory=Counter)
    """Users that each worker had when the sending began."""
    rooms_missing: dict[str, list[str]] = field(default_factory=dict)
    """Workers on which a room has no member, by room."""
    refused: Counter[str] = field(default_factory=Counter)
    """Handshakes that failed, by reason."""
    lost: Counter[str] = field(default_factory=Counter)
    """Connections that ended without being asked to, by reason."""
    errors: Counter[str] = field(default_factory=Counter)
    """`error` messages by code, and frames that could not be read."""
    returned: int = 0
    """Users that dropped their connection at the end and came back with the cookie."""
    returned_to_same: int = 0

    @property
    def sticky_ratio(self) -> float | None:
        return self.returned_to_same / self.returned if self.returned else None


@dataclass(slots=True)
class Generator:
    """What the load generator did while it sent. `cpu` is the share of one core."""

    cpu: float
    lag_p99_ms: float
    skipped: int = 0
    """Messages that were due while their sender had no connection."""
    overdue: int = 0
    """Messages that were due and had not been sent a second after the end."""
    died: list[str] = field(default_factory=list)
    """What became of those of its processes that did not say what they found, a sentence each."""


@dataclass(slots=True)
class Verdict:
    outcome: Outcome
    reasons: list[str]
    """Why it is not passed."""
    notes: list[str]
    """What the reader should know, whatever the outcome."""


def judge(
    audit: Audit,
    connections: Connections,
    generator: Generator,
    *,
    workers: list[str],
    p99_ms: float,
    interrupted: bool = False,
) -> Verdict:
    """The verdict on a run with the expected `workers` and the threshold for the 99th percentile of all deliveries.

    A message that is missing, came twice or out of order is a failure whatever the generator did; where only the
    speed is in doubt, an overloaded generator makes the run invalid.
    """
    broken = _delivery(audit)
    overload = overload_reasons(generator, p99_ms)
    rest = _participation(audit, connections, generator, workers) + _latency(audit, p99_ms)
    reasons = broken + overload + rest
    if interrupted:
        outcome = Outcome.INTERRUPTED
    elif broken and not (generator.died and not audit.sent):  # who died before anything was sent says nothing
        outcome = Outcome.FAILED
    elif overload:
        outcome = Outcome.INVALID
    else:
        outcome = Outcome.FAILED if rest else Outcome.PASSED
    return Verdict(outcome, reasons, _notes(audit, connections))


def _delivery(audit: Audit) -> list[str]:
    reasons = []
    if not audit.expected:
        reasons.append("no delivery was expected: nothing was acknowledged in a room with members")
    for pair in audit.pairs.values():
        if pair.missing:
            reasons.append(_missing(pair))
    for pair in audit.pairs.values():
        if pair.duplicates:
            reasons.append(f"{pair.origin} → {pair.receiver}: {pair.duplicates:,} delivered more than once")
        if pair.out_of_order:
            reasons.append(f"{pair.origin} → {pair.receiver}: {pair.out_of_order:,} after a later message")
    if audit.split_topics and audit.missing:
        reasons.append(
            f"the workers do not share a log: subscribers of {audit.split_topics[0]}"
            + (f" and {len(audit.split_topics) - 1:,} more topics" if len(audit.split_topics) > 1 else "")
            + " were told different epochs"
        )
    for count, what in (
        (audit.stale, "deliveries from before the position that `subscribed` named"),
        (audit.misrouted, "deliveries in a topic that the message was not sent to"),
        (audit.foreign, "deliveries or acknowledgements of messages that this run never sent"),
        (audit.position_conflicts, "messages that came with a second position"),
        (audit.shared_positions, "messages at the position of another message of their topic"),
        (audit.sent - audit.acknowledged, f"messages never acknowledged, of {audit.sent:,}"),
        (audit.unrecovered, "clients that came back and were not brought up to date (`recovered: false`)"),
    ):
        if count:
            reasons.append(f"{what}: {count:,}")
    return reasons


def _missing(pair: Pair) -> str:
    nothing = "" if pair.delivered else ": nothing arrives there"
    examples = [f"{one.topic} {one.position} for {one.user}" for one in pair.examples[:2]]
    if pair.missing > len(examples):
        examples.append("…")
    named = ", ".join(examples)
    return f"{pair.origin} → {pair.receiver}: {pair.missing:,} of {pair.expected:,} missing{nothing} ({named})"


def overload_reasons(generator: Generator, p99_ms: float) -> list[str]:
    """Why the generator was the bottleneck; none where it was not."""
    reasons = list(generator.died)
    if generator.cpu > MAX_CPU:
        reasons.append(f"the load generator used {generator.cpu:.0%} of its core (at most {MAX_CPU:.0%}): send less")
    if generator.overdue:
        reasons.append(f"the load generator could not send all that was due: {generator.overdue:,} messages are left")
    if generator.lag_p99_ms > (allowed := MAX_LAG_SHARE * p99_ms):
        reasons.append(
            f"the load generator sent {generator.lag_p99_ms:,.0f} ms late (p99, at most {allowed:,.0f} ms): "
            "too little processor time for the stack and the generator"
        )
    return reasons


def _participation(audit: Audit, connections: Connections, generator: Generator, workers: list[str]) -> list[str]:
    reasons = []
    if connections.joined < connections.users:
        reasons.append(f"{connections.joined:,} of {connections.users:,} users could join")
    if absent := [worker for worker in workers if not connections.by_worker[worker]]:
        reasons.append(f"nobody was connected to {', '.join(absent)}")
    if strangers := sorted(set(connections.by_worker) - set(workers)):
        reasons.append(f"{', '.join(strangers)} took part, but is not one of {', '.join(workers)}")
    if audit.expected and (
        silent := [
            f"{pair.origin} → {pair.receiver}"
            for pair in audit.pairs.values()
            if not pair.expected and pair.origin in workers and pair.receiver in workers
        ]
    ):
        reasons.append(f"no message went {', '.join(silent)}: send more, or have fewer rooms")
    for what, counts in (
        ("handshakes that failed", connections.refused),
        ("connections lost", connections.lost),
        ("errors answered", connections.errors),
    ):
        if total := counts.total():
            details = ", ".join(f"{reason} ({count:,})" for reason, count in counts.most_common(3))
            reasons.append(f"{what}: {total:,}, namely {details}")
    if set(connections.refused) & FORBIDDEN:
        reasons.append("the tokens are refused: is CHAT_TOKEN_SECRET the one that the stack was started with?")
    if generator.skipped:
        reasons.append(f"messages not sent, because their senders had no connection: {generator.skipped:,}")
    if connections.returned_to_same < connections.returned:
        reasons.append(
            f"{connections.returned_to_same:,} of {connections.returned:,} users that came back with the cookie "
            "reached their worker again"
        )
    return reasons


def _latency(audit: Audit, p99_ms: float) -> list[str]:
    reasons = []
    for same_worker, where in ((True, "the same worker"), (False, "another worker")):
        measured = audit.latency(same_worker=same_worker).percentile(0.99)
        if measured is not None and measured > p99_ms:
            reasons.append(f"p99 to {where} is {measured:,.1f} ms (at most {p99_ms:,.0f} ms)")
    return reasons


def _notes(audit: Audit, connections: Connections) -> list[str]:
    notes = []
    if missing := connections.rooms_missing:
        room, workers = next(iter(missing.items()))
        notes.append(
            f"{len(missing):,} rooms lack members on some worker (e.g. {room}: nobody on {', '.join(workers)})"
        )
    return notes
