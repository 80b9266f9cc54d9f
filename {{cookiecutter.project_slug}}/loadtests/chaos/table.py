"""The report of a chaos run as text for the terminal. Pure."""

from __future__ import annotations

from ..table import grid
from .report import ChaosReport, FaultRow

HEADINGS = (
    "fault",
    "hit",
    "back p50",
    "p99",
    "max",
    "sent",
    "lost",
    "duplicated",
    "out of order",
    "recovered",
    "not recovered",
)


def render(report: ChaosReport) -> str:
    parts = []
    if report["rows"]:
        parts.append(
            "Seconds until the clients who were hit were back; messages sent meanwhile, and what became of them\n"
            + grid(HEADINGS, [_cells(row) for row in report["rows"]])
        )
    spread = [
        f"{row['fault']}: of the new connections of any second a worker got its share "
        f"{row['busiest_worker_excess']:+.0%} at most"
        for row in report["rows"]
        if row["busiest_worker_excess"] is not None
    ]
    if spread:
        parts.append("\n".join(spread))
    verdict = report["verdict"]
    headline = (
        f"{verdict['outcome'].upper()}: {report['delivered']:,} of {report['expected']:,} deliveries, "
        f"{report['acknowledged']:,} of {report['sent']:,} messages acknowledged, {len(report['rows'])} faults"
    )
    reasons = [f"  - {reason}" for reason in verdict["reasons"]]
    parts.append("\n".join([headline, *reasons, *(f"  note: {note}" for note in verdict["notes"])]))
    return "\n\n".join(parts)


def _cells(row: FaultRow) -> list[str]:
    back = (row["back_ms"]["p50"], row["back_ms"]["p99"], row["back_ms"]["max"])
    counts = (
        row["sent"],
        row["lost"],
        row["duplicated"],
        row["out_of_order"],
        row["recovered"],
        row["unrecovered"],
    )
    name = f"{row['fault']} {row['target']}".rstrip()
    return [
        name,
        f"{row['hit']:,}",
        *("-" if ms is None else f"{ms / 1000:.2f}" for ms in back),
        *(f"{count:,}" for count in counts),
    ]
