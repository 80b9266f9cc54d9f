"""The tables: medians over the rounds, and how far the rounds were apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .bench import Measurement
from .workloads import Figure, Workload


@dataclass(frozen=True)
class Spread:
    middle: float
    least: float
    most: float

    def text(self, figure: Figure) -> str:
        middle, least, most = (f"{v * figure.scale:,.{figure.digits}f}" for v in (self.middle, self.least, self.most))
        return middle if least == most else f"{middle} ({least}–{most})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def rows(workload: Workload, measurements: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """The measurements of a workload by contender, best first; those without figures last."""
    by_contender: dict[str, list[Measurement]] = {}
    for one in measurements:
        if one.workload == workload.name:
            by_contender.setdefault(one.contender, []).append(one)
    sign = -1 if workload.higher_is_better else 1

    def place(contender: str) -> tuple[bool, float]:
        middle = main_figure(workload, by_contender[contender])
        return middle is None, sign * (middle or 0)

    return {contender: by_contender[contender] for contender in sorted(by_contender, key=place)}


def main_figure(workload: Workload, measurements: Iterable[Measurement]) -> float | None:
    values = [one.figures[workload.figures[0].name] for one in measurements if one.figures]
    return median(values) if values else None


def ratio(workload: Workload, ours: float | None, theirs: float | None) -> str:
    """How many times better ours is."""
    if not ours or not theirs:
        return ""
    times = ours / theirs if workload.higher_is_better else theirs / ours
    return f"{times:.{0 if times >= 20 else 1}f}"


def table(
    workload: Workload, measurements: Iterable[Measurement], titles: Mapping[str, str], skipped: Mapping[str, str]
) -> str:
    """A Markdown table, and notes under it."""
    found = rows(workload, measurements)
    reference = "template_gateway" if workload.gateway else "template"
    ours = main_figure(workload, found.get(reference, []))
    lines = [
        f"## {workload.title}",
        "",
        f"| | {' | '.join(figure.heading for figure in workload.figures)} | template ÷ it |",
        f"|---|{'---:|' * (len(workload.figures) + 1)}",
    ]
    notes: list[str] = []
    for contender, ones in found.items():
        title, good = titles.get(contender, contender), [one for one in ones if one.figures]
        for one in ones:
            if one.failure or one.note:
                notes.append(f"{title}: {one.failure or one.note}")
        limited = any(one.client_limited for one in ones)
        if limited:
            notes.append(f"{title}: the client ended the search, the server can do more")
            title = f"{title}, at least"
        cells = [
            spread([one.figures[figure.name] for one in good]).text(figure) if good else "–"
            for figure in workload.figures
        ]
        better = ratio(workload, ours, main_figure(workload, ones))
        most = "≤ " if limited and contender != reference else ""
        lines.append(f"| {title} | {' | '.join(cells)} | {better and f'{most}× {better}'} |")
    lines += [f"| {titles.get(name, name)} | skipped: {why} |" for name, why in skipped.items()]
    lines += ["", *(f"- {note}" for note in dict.fromkeys(notes)), ""]
    return "\n".join(lines)
