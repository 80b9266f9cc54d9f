"""A report as text for the terminal: verdict, matrix, latencies. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .report import Percentiles, Report

MAX_MATRIX_WORKERS = 6
"""With more, only the rows that are wrong are printed: the report has them all."""


def render(report: Report) -> str:
    parts = [_matrix(report), _latencies(report), _facts(report), _verdict(report)]
    return "\n\n".join(part for part in parts if part)


def _verdict(report: Report) -> str:
    totals, verdict = report["totals"], report["verdict"]
    ratio = "-" if totals["ratio"] is None else "1" if totals["ratio"] == 1 else f"{min(totals['ratio'], 0.999999):.6f}"
    headline = (
        f"{verdict['outcome'].upper()}: {totals['delivered']:,} of {totals['expected']:,} deliveries (ratio {ratio}), "
        f"{totals['duplicates']:,} duplicates, {totals['out_of_order']:,} out of order"
    )
    lines = [f"  - {reason}" for reason in verdict["reasons"]] + [f"  note: {note}" for note in verdict["notes"]]
    return "\n".join([headline, *lines])


def _matrix(report: Report) -> str:
    names = list(dict.fromkeys(cell["origin"] for cell in report["matrix"]))
    if not names:
        return ""
    cells = {(cell["origin"], cell["receiver"]): cell for cell in report["matrix"]}
    if len(names) > MAX_MATRIX_WORKERS:
        wrong = [cell for cell in report["matrix"] if cell["missing"] or cell["duplicates"] or cell["out_of_order"]]
        rows = [
            [cell["origin"], cell["receiver"], f"{cell['delivered']:,}", f"{cell['expected']:,}"] for cell in wrong[:20]
        ]
        if not rows:
            return f"Delivered = expected between all {len(names)} × {len(names)} pairs of workers."
        return grid(["sent through", "to", "delivered", "expected"], rows)
    rows = [
        [origin, *(f"{cells[origin, one]['delivered']:,}/{cells[origin, one]['expected']:,}" for one in names)]
        for origin in names
    ]
    return "Delivered/expected, by the worker of the sender (rows) and of the receiver (columns)\n" + grid(
        ["", *names], rows
    )


def _latencies(report: Report) -> str:
    rows = [
        ["to the same worker", *_figures(report["same_worker"])],
        ["to another worker", *_figures(report["other_worker"])],
        ["send until ack", *_figures(report["acknowledge"])],
        ["connect", *_figures(report["connect"])],
        ["generator's own lag", *_figures(report["generator"]["lag_ms"])],
    ]
    return grid(["milliseconds", "count", "p50", "p95", "p99", "p99.9", "max"], rows)


def _facts(report: Report) -> str:
    connections, totals = report["connections"], report["totals"]
    spread = ", ".join(f"{worker} {users:,}" for worker, users in connections["by_worker"].items())
    lines = [
        f"Users: {connections['joined']:,} of {connections['users']:,} ({spread or 'none'}). "
        f"Messages: {totals['sent']:,} sent, {totals['acknowledged']:,} acknowledged. "
        f"Generator: {report['generator']['cpu']:.0%} of a core."
    ]
    if connections["sticky_ratio"] is not None:
        lines.append(
            f"Reconnects with the cookie that reached the same worker: {connections['returned_to_same_worker']:,} of "
            f"{connections['returned']:,} ({connections['sticky_ratio']:.1%})."
        )
    return "\n".join(lines)


def _figures(latency: Percentiles) -> list[str]:
    values = (latency["p50"], latency["p95"], latency["p99"], latency["p99_9"], latency["max"])
    return [f"{latency['count']:,}", *("-" if value is None else f"{value:,.1f}" for value in values)]


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        first, *others = (
            text.ljust(width) if not i else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((f"  {first}", *others)).rstrip())
    return "\n".join(lines)
