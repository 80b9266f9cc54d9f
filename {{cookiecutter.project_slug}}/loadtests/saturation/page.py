"""The page of a saturation run: rate against latency and delivery, and where it bends. Pure."""

from __future__ import annotations

from collections.abc import Callable

from ..pages.charts import Chart, Series, draw
from ..pages.document import Cell, Html, columns, page, section, table, tiles
from ..pages.figures import circumstances, milliseconds, processes, share
from .report import SaturationReport, Step

TITLE = "Saturation"
HEADINGS = (
    "messages/s due",
    "sent/s",
    "deliveries/s",
    "delivered ÷ expected",
    "p50 ms",
    "p95",
    "p99",
    "p99.9",
    "generator",
    "machine",
    "outcome",
)


def render(report: SaturationReport, name: str = "saturation.json") -> str:
    """`name` is the file of the same data, beside the page."""
    knee = report["knee"]
    return page(
        title=f"{TITLE}, {report['started_at']}",
        outcome=knee["outcome"],
        headline=knee["sentence"],
        notes=[],
        body=[
            _tiles(report),
            section(
                "The knee",
                columns(
                    _latency_chart(report),
                    _chart(report, "Deliveries", "deliveries per second", lambda step: step["delivered_per_second"]),
                    _chart(
                        report,
                        "Delivered of what was expected",
                        "%",
                        lambda step: None if step["ratio"] is None else 100 * step["ratio"],
                    ),
                    _chart(report, "The load generator", "% of a core", lambda step: 100 * step["generator_cpu"]),
                ),
                _steps(report),
                text="Latency counts from when a message was due, without the warm-up of each step.",
            ),
            processes(report["processes"]),
            circumstances(report["settings"], report["versions"], report["machine"], report["started_at"]),
            section("The data", text=f"All figures of this page are in {name} and, as JSON, inside this page too."),
        ],
        data=report,
    )


def _tiles(report: SaturationReport) -> Html:
    knee, steps = report["knee"], report["steps"]
    most = max((step["delivered_per_second"] for step in steps), default=None)
    held = [step for step in steps if step["rate"] == knee["held_rate"]]
    return tiles(
        [
            ("Held", _rate(knee["held_rate"]), "messages per second"),
            ("Did not hold", _rate(knee["broke_rate"]), "messages per second"),
            ("p99 where it held", f"{milliseconds(held[0]['latency']['p99'])} ms" if held else "–", ""),
            ("Most deliveries", _rate(most), "per second"),
            ("Users", f"{sum(report['by_worker'].values()):,}", f"on {len(report['by_worker'])} workers"),
        ]
    )


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _mark(report: SaturationReport) -> tuple[float, str] | None:
    held = report["knee"]["held_rate"]
    return None if held is None else (held, f"held: {held:,.0f}/s")


def _latency_chart(report: SaturationReport) -> Html:
    steps, limit = report["steps"], report["settings"]["p99_ms"]
    return draw(
        Chart(
            "Latency",
            report["knee"]["sentence"],
            "messages per second, logarithmic",
            "ms, logarithmic",
            [
                Series("p50", [(step["rate"], step["latency"]["p50"]) for step in steps]),
                Series("p95", [(step["rate"], step["latency"]["p95"]) for step in steps]),
                Series("p99", [(step["rate"], step["latency"]["p99"]) for step in steps]),
            ],
            limit=(float(limit), f"p99 at most {float(limit):g} ms"),
            mark=_mark(report),
            log_x=True,
            log_y=True,
            dots=True,
        )
    )


def _chart(report: SaturationReport, title: str, unit: str, value: Callable[[Step], float | None]) -> Html:
    points = [(step["rate"], value(step)) for step in report["steps"]]
    return draw(
        Chart(
            title,
            "; ".join(f"{rate:,.0f} messages/s: {y or 0:,.0f}" for rate, y in points),
            "messages per second, logarithmic",
            unit,
            [Series(title, points)],
            mark=_mark(report),
            log_x=True,
            dots=True,
            min_span=1,
        )
    )


def _steps(report: SaturationReport) -> Html:
    rows: list[list[Cell | str]] = []
    for step in report["steps"]:
        latency = step["latency"]
        rows.append(
            [
                f"{step['rate']:,.0f}",
                f"{step['sent_per_second']:,.0f}",
                f"{step['delivered_per_second']:,.0f}",
                Cell(share(step["ratio"]), kind="good" if step["ratio"] == 1 else "bad"),
                *(milliseconds(value) for value in (latency["p50"], latency["p95"], latency["p99"], latency["p99_9"])),
                f"{step['generator_cpu']:.0%}",
                f"{step['machine_cpu']:.0%}",
                Cell(
                    step["outcome"],
                    small=step["reason"],
                    kind="good" if step["outcome"] == "held" else "bad",
                    numeric=False,
                ),
            ]
        )
    return table("Step by step", HEADINGS, rows)
