"""The page of a comparison. Pure."""

from __future__ import annotations

from dataclasses import asdict

from ..pages.document import Cell, Html, bullets, page, section, table
from .difference import Comparison
from .table import change, value

TITLE = "Two load tests compared"


def render(found: Comparison) -> str:
    return page(
        title=TITLE,
        outcome=outcome(found),
        headline=headline(found),
        notes=[
            f"{letter}: {name}, {began}, {verdict}"
            for letter, name, began, verdict in zip("AB", found.names, found.began, found.outcomes, strict=True)
        ],
        body=[
            section("Figures", _figures(found), text="B against A. Differences below 5 % are called none."),
            section("What else is different", _changed(found)),
        ],
        data=asdict(found),
    )


def outcome(found: Comparison) -> str:
    """In one word: what the figures say that were judged."""
    judged = {one.judgement for one in found.figures} - {""}
    return "same" if not judged else judged.pop() if len(judged) == 1 else "mixed"


def headline(found: Comparison) -> str:
    counts = {what: sum(one.judgement == what for one in found.figures) for what in ("better", "worse")}
    rest = len(found.figures) - sum(counts.values())
    changed = "" if not found.changed else f" {circumstances(len(found.changed))}: look at that first."
    compared = f"B is better in {counts['better']}, worse in {counts['worse']}, as A in {rest}"
    return f"Of {len(found.figures)} figures {compared}.{changed}"


def circumstances(count: int) -> str:
    return "1 circumstance is different" if count == 1 else f"{count:,} circumstances are different"


def _figures(found: Comparison) -> Html:
    return table(
        "A and B",
        ["figure", "A", "B", "change", "B is"],
        [
            [
                one.name,
                value(one, one.before),
                value(one, one.after),
                Cell(change(one), kind=one.judgement),
                Cell(one.judgement, kind=one.judgement, numeric=False),
            ]
            for one in found.figures
        ],
    )


def _changed(found: Comparison) -> Html:
    if not found.changed:
        return bullets(["Settings, versions and machine are the same."])
    return table(
        "Circumstances",
        ["name", "what", "A", "B"],
        [
            [one.name, *(Cell(text, numeric=False) for text in (one.what, one.before, one.after))]
            for one in found.changed
        ],
        kind="words",
    )
