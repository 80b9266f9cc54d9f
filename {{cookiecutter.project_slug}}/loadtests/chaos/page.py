"""The page of a chaos run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..pages.charts import Band, draw_rows
from ..pages.document import Cell, Html, columns, page, section, table, tiles
from ..pages.figures import (
    circumstances,
    histogram,
    latency_table,
    matrix,
    over_time,
    processes,
    rates,
    seconds,
    share,
)
from .report import ChaosReport, FaultRow

TITLE = "Chaos run"
HEADINGS = (
    "fault",
    "at",
    "lasted",
    "hit",
    "lost connection",
    "back, p50",
    "back, p99",
    "back, last",
    "sent",
    "lost",
    "twice",
    "out of order",
    "recovered",
    "not recovered",
)


def render(report: ChaosReport, name: str = "chaos.json") -> str:
    """`name` is the file of the same data, beside the page."""
    verdict, bands = report["verdict"], [_band(row) for row in report["rows"]]
    return page(
        title=f"{TITLE}, {report['started_at']}",
        outcome=verdict["outcome"],
        headline=headline(report),
        notes=[*verdict["reasons"], *verdict["notes"]],
        body=[
            _tiles(report),
            section(
                "What was broken, and what became of it",
                _timeline(report["rows"], bands, _end(report)),
                _faults(report["rows"]),
                _problems(report["rows"]),
                text="The time until a client was back is the longest that it waited for anything: to be connected "
                "with all that it missed, for an ack, or for a message. Times are in seconds.",
            ),
            section("Who reached whom", matrix(report["matrix"])),
            section(
                "How fast",
                over_time(report["timeline"], bands=bands, log=True),
                columns(
                    histogram(report["same_worker"], report["other_worker"]),
                    latency_table(
                        "From when a message was due",
                        [("to the same worker", report["same_worker"]), ("to another worker", report["other_worker"])],
                    ),
                ),
                text="What a client received only after it was back counts from when the message was due. "
                "Shaded: from each fault's strike until all was as before.",
            ),
            section("How much", rates(report["timeline"], bands)),
            processes(report["processes"], bands),
            circumstances(report["settings"], report["versions"], report["machine"], report["started_at"]),
            section("The data", text=f"All figures of this page are in {name} and, as JSON, inside this page too."),
        ],
        data=report,
    )


def headline(report: ChaosReport) -> str:
    """The verdict's reason, in a sentence."""
    rows, outcome, reasons = report["rows"], report["verdict"]["outcome"], report["verdict"]["reasons"]
    counted = f"{report['delivered']:,} of {report['expected']:,} deliveries arrived"
    if outcome == "passed":
        struck = "1 fault" if len(rows) == 1 else f"{len(rows)} faults"
        return f"{struck}, and {counted}: nothing was lost, doubled or out of order, and everybody was back in time."
    if outcome == "interrupted":
        return f"Stopped before its end, after {len(rows)} faults. Until then {counted}."
    return f"{reasons[0] if len(reasons) == 1 else f'{len(reasons)} reasons'}. {counted}."


def _tiles(report: ChaosReport) -> Html:
    rows = report["rows"]
    slowest = max((row for row in rows if row["back_ms"]["max"] is not None), key=_longest, default=None)
    return tiles(
        [
            (
                "Delivered ÷ expected",
                share(report["delivered"] / report["expected"] if report["expected"] else None),
                f"{report['delivered']:,} of {report['expected']:,} deliveries",
            ),
            ("Faults", f"{len(rows):,}", f"{sum(row['hit'] for row in rows):,} times a client was hit"),
            (
                "Last one back after",
                f"{seconds(_longest(slowest))} s" if slowest else "–",
                slowest["fault"] if slowest else "",
            ),
            ("Brought up to date", f"{sum(row['recovered'] for row in rows):,}", "times that a client came back"),
            ("Told of a hole", f"{sum(row['unrecovered'] for row in rows):,}", "times that a client came back"),
            ("Messages acknowledged", f"{report['acknowledged']:,}", f"of {report['sent']:,}"),
        ]
    )


def _longest(row: FaultRow) -> float:
    return row["back_ms"]["max"] or 0


def _end(report: ChaosReport) -> float:
    ends = [row["at_seconds"] + row["lasted_seconds"] for row in report["rows"]]
    return max([*ends, *(one["at_seconds"] for one in report["timeline"][-1:])], default=0)


def _name(row: FaultRow) -> str:
    return f"{row['fault']} {row['target']}".rstrip()


def _band(row: FaultRow) -> Band:
    return Band(row["at_seconds"], row["at_seconds"] + row["lasted_seconds"], _name(row))


def _told(row: FaultRow) -> str:
    return f"{_name(row)} at {row['at_seconds']:g} s, for {row['lasted_seconds']:g} s"


def _timeline(rows: Sequence[FaultRow], bands: Sequence[Band], end: float) -> Html:
    return draw_rows("Faults", "; ".join(_told(row) for row in rows), bands, end) if rows else Html("")


def _faults(rows: Sequence[FaultRow]) -> Html:
    return table(
        "A row for each fault",
        HEADINGS,
        [
            [
                _name(row),
                f"{row['at_seconds']:,.1f}",
                f"{row['lasted_seconds']:,.1f}",
                _count(row["hit"], wrong=not row["hit"]),
                f"{row['lost_connection']:,}",
                *(seconds(ms) for ms in (row["back_ms"]["p50"], row["back_ms"]["p99"], row["back_ms"]["max"])),
                f"{row['sent']:,}",
                *(_count(n, wrong=n > 0) for n in (row["lost"], row["duplicated"], row["out_of_order"])),
                f"{row['recovered']:,}",
                _count(row["unrecovered"], wrong=row["unrecovered"] > 0),
            ]
            for row in rows
        ],
    )


def _count(value: int, *, wrong: bool) -> Cell:
    return Cell(f"{value:,}", kind="bad" if wrong else "")


def _problems(rows: Sequence[FaultRow]) -> Html:
    """How connections ended, and what was refused meanwhile."""
    lines: list[list[Cell | str]] = []
    for row in rows:
        for what, counts in (("closed", row["closes"]), ("refused", row["refused"]), ("error", row["errors"])):
            lines += [
                [_name(row), Cell(what, numeric=False), Cell(reason, numeric=False), f"{n:,}"]
                for reason, n in counts.items()
            ]
    return table("How connections ended", ["fault", "what", "reason", "times"], lines) if lines else Html("")
