"""A saturation run as text for the terminal: a row for each step, as it ends. Pure."""

from __future__ import annotations

from .report import Step

HEADINGS = ("due/s", "sent/s", "delivered/s", "ratio", "p50 ms", "p95", "p99", "generator", "")
WIDTHS = (9, 9, 13, 10, 9, 9, 9, 11)


def heading() -> str:
    return _line(HEADINGS)


def row(step: Step) -> str:
    latency, ratio = step["latency"], step["ratio"]
    values = (latency["p50"], latency["p95"], latency["p99"])
    return _line(
        (
            f"{step['rate']:,.0f}",
            f"{step['sent_per_second']:,.0f}",
            f"{step['delivered_per_second']:,.0f}",
            "-" if ratio is None else "1" if ratio == 1 else f"{min(ratio, 0.999999):.6f}",
            *("-" if value is None else f"{value:,.1f}" for value in values),
            f"{step['generator_cpu']:.0%}",
            step["outcome"] + (f": {step['reason']}" if step["reason"] else ""),
        )
    )


def _line(cells: tuple[str, ...]) -> str:
    return ("".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=False)) + "  " + cells[-1]).rstrip()
