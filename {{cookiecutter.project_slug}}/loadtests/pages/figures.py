"""The parts that the pages share: who reached whom, how fast, at what cost, with which settings. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from ..report import Latency, MatrixCell, Percentiles, ProcessFigures, ProcessSecond, Second
from .charts import COLOURS, Band, Chart, Points, Series, draw
from .document import Cell, Html, columns, facts, paragraph, section, table

BINS_PER_DECADE = 20
MEGABYTE = 1_000_000
NEAR_LIMIT = 1 / 3
"""A limit is drawn where the latency comes so near to it: farther off it would flatten everything else."""
LATENCY_HEADINGS = ("milliseconds", "count", "p50", "p95", "p99", "p99.9", "max")


def milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def share(ratio: float | None) -> str:
    """A ratio just below one is not shown as one."""
    return "–" if ratio is None else "1" if ratio == 1 else f"{min(ratio, 0.999999):.6f}"


def seconds(value: float | None) -> str:
    return "–" if value is None else f"{value / 1000:,.2f}"


def matrix(cells: Sequence[MatrixCell]) -> Html:
    """Rows are the workers of the senders, columns those of the receivers."""
    origins = list(dict.fromkeys(cell["origin"] for cell in cells))
    receivers = list(dict.fromkeys(cell["receiver"] for cell in cells))
    found = {(cell["origin"], cell["receiver"]): cell for cell in cells}
    if not found:
        return paragraph("Nothing was sent.")
    return table(
        "Delivered, by the worker of the sender (rows) and of the receiver (columns)",
        ["worker", *(f"to {receiver}" for receiver in receivers)],
        [[f"from {origin}", *(_heat(found[origin, one]) for one in receivers)] for origin in origins],
        kind="heat",
    )


def _heat(cell: MatrixCell) -> Cell:
    wrong = cell["missing"] + cell["duplicates"] + cell["out_of_order"]
    small = [f"of {cell['expected']:,}"]
    small += [
        f"{count:,} {what}"
        for count, what in (
            (cell["missing"], "missing"),
            (cell["duplicates"], "twice"),
            (cell["out_of_order"], "out of order"),
        )
        if count
    ]
    if cell["latency"]["p99"] is not None:
        small.append(f"p99 {milliseconds(cell['latency']['p99'])} ms")
    kind = "bad" if wrong else "good" if cell["expected"] else ""
    heat = max(0.05, min(1, wrong / max(cell["expected"], 1))) if wrong else 0
    return Cell(f"{cell['delivered']:,}", small=" · ".join(small), kind=kind, heat=heat)


def latency_table(caption: str, rows: Sequence[tuple[str, Percentiles]]) -> Html:
    return table(caption, LATENCY_HEADINGS, [[name, *latency_cells(one)] for name, one in rows])


def latency_cells(one: Percentiles) -> list[str]:
    return [
        f"{one['count']:,}",
        *(milliseconds(value) for value in (one["p50"], one["p95"], one["p99"], one["p99_9"], one["max"])),
    ]


def histogram(same: Latency, other: Latency) -> Html:
    both = [("to the same worker", same), ("to another worker", other)]
    return draw(
        Chart(
            "Latency of deliveries",
            "; ".join(f"{name}: half within {milliseconds(one['p50'])} ms" for name, one in both),
            "milliseconds, logarithmic",
            "% of deliveries",
            [Series(name, shares(one)) for name, one in both if one["histogram"]],
            log_x=True,
            steps=True,
        )
    )


def shares(latency: Latency) -> Points:
    """(left edge, percent of all) of bins that are equally wide on a logarithmic axis, with a zero at the end."""
    counts: dict[int, int] = {}
    for edge, count in latency["histogram"]:
        bin_number = math.floor(math.log10(max(edge, 0.01)) * BINS_PER_DECADE)
        counts[bin_number] = counts.get(bin_number, 0) + count
    whole = sum(counts.values())
    bins = range(min(counts), max(counts) + 1) if counts else range(0)
    points = [(_left_edge(one), 100 * counts.get(one, 0) / whole) for one in bins]
    return [*points, (_left_edge(bins[-1] + 1), 0.0)] if points else []


def _left_edge(bin_number: int) -> float:
    return float(10 ** (bin_number / BINS_PER_DECADE))


def over_time(
    timeline: Sequence[Second], *, limit_ms: float | None = None, bands: Sequence[Band] = (), log: bool = False
) -> Html:
    """Latency of both kinds, and what travelled, second by second."""
    limit = None if limit_ms is None else (limit_ms, f"at most {limit_ms:g} ms")
    return columns(
        *(
            draw(
                Chart(
                    f"Latency to {name}, over time",
                    "; ".join(f"{label} at most {milliseconds(_highest(points))} ms" for label, points in lines),
                    "seconds",
                    "ms, logarithmic" if log else "ms",
                    [Series(label, points) for label, points in lines],
                    bands=bands,
                    limit=limit if limit and (_highest(lines[-1][1]) or 0) > limit[0] * NEAR_LIMIT else None,
                    log_y=log,
                    min_span=1,
                )
            )
            for name, lines in (
                ("the same worker", _percentile_lines([one["same_worker"] for one in timeline], timeline)),
                ("another worker", _percentile_lines([one["other_worker"] for one in timeline], timeline)),
            )
        )
    )


def _percentile_lines(parts: Sequence[Percentiles], timeline: Sequence[Second]) -> list[tuple[str, Points]]:
    times = [one["at_seconds"] for one in timeline]
    return [
        ("p50", list(zip(times, [one["p50"] for one in parts], strict=True))),
        ("p95", list(zip(times, [one["p95"] for one in parts], strict=True))),
        ("p99", list(zip(times, [one["p99"] for one in parts], strict=True))),
    ]


def _highest(points: Points) -> float | None:
    return max((value for _, value in points if value is not None), default=None)


def rates(timeline: Sequence[Second], bands: Sequence[Band] = ()) -> Html:
    sent = Series("sent", _per_second(timeline, "sent"))
    acknowledged = Series("acknowledged", _per_second(timeline, "acknowledged"))
    delivered = Series("delivered", _per_second(timeline, "delivered"))
    return columns(
        draw(
            Chart(
                "Messages",
                f"sent at most {_highest(sent.points) or 0:,.0f} per second",
                "seconds",
                "messages per second",
                [sent, acknowledged],
                bands=bands,
                min_span=1,
            )
        ),
        draw(
            Chart(
                "Deliveries",
                f"at most {_highest(delivered.points) or 0:,.0f} per second",
                "seconds",
                "deliveries per second",
                [delivered],
                bands=bands,
                min_span=1,
            )
        ),
    )


def _per_second(timeline: Sequence[Second], what: str) -> Points:
    points, before = [], 0.0
    for one in timeline:
        counts = {"sent": one["sent"], "acknowledged": one["acknowledged"], "delivered": one["delivered"]}
        span = one["at_seconds"] - before
        if span >= 0.2:  # the rest of a second says nothing about a rate
            points.append((one["at_seconds"], counts[what] / span))
        before = one["at_seconds"]
    return points


def processes(measured: ProcessFigures, bands: Sequence[Band] = ()) -> Html:
    heading = "Processes"
    if measured["note"] or not measured["series"]:
        return section(heading, text=measured["note"] or "Not measured: the run was too short.")
    rows = []
    for one in measured["series"]:
        cpu = [second["cpu"] for second in one["seconds"]]
        memory = [second["memory_bytes"] for second in one["seconds"]]
        connections = [n for second in one["seconds"] if (n := second["connections"]) is not None]
        messages = [rate for second in one["seconds"] if (rate := second["messages"]) is not None]
        rows.append(
            [
                one["name"],
                f"{sum(cpu) / len(cpu):.0%}" if cpu else "–",
                f"{max(cpu):.0%}" if cpu else "–",
                f"{max(memory) / MEGABYTE:,.0f} MB" if memory else "–",
                f"{max(connections):,}" if connections else "–",
                f"{max(messages):,.0f}" if messages else "–",
            ]
        )
    drawn: tuple[tuple[str, str, Callable[[ProcessSecond], float | None]], ...] = (
        ("Processor", "% of a core", lambda second: 100 * second["cpu"]),
        ("Memory", "MB", lambda second: second["memory_bytes"] / MEGABYTE),
        ("Connections", "open", lambda second: second["connections"]),
        ("Messages written to clients", "per second", lambda second: second["messages"]),
    )
    return section(
        heading,
        columns(*(_process_chart(measured, title, unit, value, bands) for title, unit, value in drawn)),
        table(
            "What each process took",
            ["process", "CPU, mean", "CPU, most", "memory, most", "connections, most", "messages/s, most"],
            rows,
        ),
    )


def _process_chart(
    measured: ProcessFigures,
    title: str,
    unit: str,
    value: Callable[[ProcessSecond], float | None],
    bands: Sequence[Band],
) -> Html:
    lines = [
        Series(one["name"], [(second["at_seconds"], value(second)) for second in one["seconds"]], place % COLOURS + 1)
        for place, one in enumerate(measured["series"])
    ]
    shown = [line for line in lines if any(point[1] is not None for point in line.points)]
    most = [f"{line.name} at most {_highest(line.points) or 0:,.0f}" for line in shown]
    return draw(Chart(title, f"{unit}: {'; '.join(most)}", "seconds", unit, shown, bands=bands, min_span=1))


def circumstances(
    settings: Mapping[str, object], versions: Mapping[str, str], machine: Mapping[str, str | int], started_at: str
) -> Html:
    """What one must know to repeat it."""
    shown = {name: value for name, value in machine.items() if name != "memory_bytes"}
    if isinstance(memory := machine.get("memory_bytes"), int):
        shown["memory"] = f"{memory / 1000 / MEGABYTE:,.1f} GB"
    return section(
        "Circumstances",
        columns(
            facts("Settings", settings),
            facts("Machine", {"began": started_at, **shown}),
            facts("Versions", versions),
        ),
    )


def comparison_hint(name: str) -> Html:
    return section(
        "The data",
        Html(
            f'<p>All figures of this page are in <a href="{escape(name)}">{escape(name)}</a> and, as JSON, inside this '
            f"page too. To compare two runs: <code>make report-diff A=OTHER.json B={escape(name)}</code></p>"
        ),
    )
