"""The page of a load test. Pure."""

from __future__ import annotations

from .pages.document import Cell, Html, columns, page, section, table, tiles
from .pages.figures import (
    circumstances,
    comparison_hint,
    histogram,
    latency_table,
    matrix,
    milliseconds,
    over_time,
    processes,
    rates,
    share,
)
from .report import Percentiles, Report

TITLE = "Load test"
EXAMPLES = 50


def render(report: Report, name: str = "latest.json") -> str:
    """`name` is the file of the same data, beside the page."""
    verdict = report["verdict"]
    spread = ", ".join(f"{worker} {users:,}" for worker, users in report["connections"]["by_worker"].items())
    limit = report["settings"].get("p99_ms")
    return page(
        title=f"{TITLE}, {report['started_at']}",
        outcome=verdict["outcome"],
        headline=headline(report),
        notes=[*verdict["reasons"], *verdict["notes"]],
        body=[
            _tiles(report),
            section("Who reached whom", matrix(report["matrix"]), _missing(report), text=_matrix_text(report)),
            section(
                "How fast",
                columns(
                    histogram(report["same_worker"], report["other_worker"]),
                    latency_table("From when a message was due", _latencies(report)),
                ),
                over_time(report["timeline"], limit_ms=float(limit) if limit is not None else None),
                text="A message counts from the moment at which it was due, so a stall cannot hide behind the sender.",
            ),
            section("How much", rates(report["timeline"])),
            processes(report["processes"]),
            section("Connections", _connections(report), text=f"Users by worker: {spread or 'none'}."),
            circumstances(report["settings"], report["versions"], report["machine"], report["started_at"]),
            comparison_hint(name),
        ],
        data=report,
    )


def headline(report: Report) -> str:
    """The verdict's reason, in a sentence."""
    totals, outcome = report["totals"], report["verdict"]["outcome"]
    counted = f"{totals['delivered']:,} of {totals['expected']:,} deliveries arrived"
    wrong = f"{counted}, {totals['duplicates']:,} twice, {totals['out_of_order']:,} out of order"
    if outcome == "passed":
        return f"All {totals['delivered']:,} deliveries arrived, once and in order, between all workers, and in time."
    if outcome == "invalid":
        return f"The load generator was the bottleneck: this says nothing about the service. {wrong}."
    if outcome == "interrupted":
        return f"Stopped before its end. Until then {wrong}."
    reasons = report["verdict"]["reasons"]
    return f"{reasons[0] if len(reasons) == 1 else f'{len(reasons)} reasons'}. {wrong}."


def _tiles(report: Report) -> Html:
    totals, connections = report["totals"], report["connections"]
    spans = report["timeline"]
    duration = spans[-1]["at_seconds"] if spans else 0
    return tiles(
        [
            (
                "Delivered ÷ expected",
                share(totals["ratio"]),
                f"{totals['delivered']:,} of {totals['expected']:,} deliveries",
            ),
            ("p99 to another worker", f"{milliseconds(report['other_worker']['p99'])} ms", _limit(report)),
            ("p99 to the same worker", f"{milliseconds(report['same_worker']['p99'])} ms", _limit(report)),
            (
                "Deliveries per second",
                f"{totals['delivered'] / duration:,.0f}" if duration else "–",
                f"{totals['sent']:,} messages sent",
            ),
            ("Users", f"{connections['joined']:,}", f"on {len(connections['by_worker'])} workers"),
            (
                "Reached their worker again",
                "–" if connections["sticky_ratio"] is None else f"{connections['sticky_ratio']:.0%}",
                f"of {connections['returned']:,} that came back",
            ),
        ]
    )


def _limit(report: Report) -> str:
    limit = report["settings"].get("p99_ms")
    return f"at most {limit:g} ms" if isinstance(limit, int | float) else ""


def _matrix_text(report: Report) -> str:
    totals = report["totals"]
    if totals["expected"] and not totals["missing"] + totals["duplicates"] + totals["out_of_order"]:
        return "Every acknowledged message reached everybody who was subscribed, once and in order."
    return "Where something is wrong, the cell is red, the deeper the more of it."


def _missing(report: Report) -> Html:
    examples = [(cell, one) for cell in report["matrix"] for one in cell["missing_examples"]][:EXAMPLES]
    if not examples:
        return Html("")
    return table(
        "Missing deliveries, the first of them",
        ["message", "from", "to", "room", "user", "position"],
        [
            [
                str(one["message"]),
                *(
                    Cell(text, numeric=False)
                    for text in (cell["origin"], cell["receiver"], one["topic"], one["user"], one["position"])
                ),
            ]
            for cell, one in examples
        ],
        kind="words",
    )


def _latencies(report: Report) -> list[tuple[str, Percentiles]]:
    return [
        ("to the same worker", report["same_worker"]),
        ("to another worker", report["other_worker"]),
        ("send until ack", report["acknowledge"]),
        ("connect", report["connect"]),
        ("generator's own lag", report["generator"]["lag_ms"]),
    ]


def _connections(report: Report) -> Html:
    connections, totals = report["connections"], report["totals"]
    counted = [
        ("users that joined", f"{connections['joined']:,} of {connections['users']:,}"),
        ("messages sent", f"{totals['sent']:,}"),
        ("messages acknowledged", f"{totals['acknowledged']:,}"),
        ("handshakes that failed", _counts(connections["refused"])),
        ("connections lost", _counts(connections["lost"])),
        ("errors answered", _counts(connections["errors"])),
        ("rooms without members on some worker", f"{len(connections['rooms_missing']):,}"),
        ("the generator's processor", f"{report['generator']['cpu']:.0%} of a core"),
    ]
    return table(
        "Counted", ["what", "how many"], [[name, Cell(value, numeric=False)] for name, value in counted], kind="facts"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} ({count:,})" for reason, count in counts.items()) or "none"
