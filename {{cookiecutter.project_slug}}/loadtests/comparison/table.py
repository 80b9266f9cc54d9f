"""A comparison as text for the terminal. Pure."""

from __future__ import annotations

from ..table import grid
from .difference import Comparison, Figure


def render(found: Comparison) -> str:
    heading = "\n".join(
        f"  {letter}: {name}, {began}, {outcome.upper()}"
        for letter, name, began, outcome in zip("AB", found.names, found.began, found.outcomes, strict=True)
    )
    figures = grid(
        ["", "A", "B", "change", ""],
        [
            [one.name, value(one, one.before), value(one, one.after), change(one), one.judgement]
            for one in found.figures
        ],
    )
    if not found.changed:
        return f"{heading}\n\n{figures}\n\nSettings, versions and machine are the same."
    changed = grid(
        ["different", "name", "A", "B"], [[one.what, one.name, one.before, one.after] for one in found.changed]
    )
    return f"{heading}\n\n{figures}\n\n{changed}"


def value(figure: Figure, number: float | None) -> str:
    return "-" if number is None else f"{number:,.{figure.digits}f}"


def change(figure: Figure) -> str:
    return "-" if figure.change is None else f"{figure.change:+.0%}"
