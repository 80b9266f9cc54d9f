"""The page around tables and charts: one file that needs nothing else. Pure, but for `write`.

What is a `str` is text and is escaped here; what is `Html` was made here or in `charts`. The page forbids itself every
script and every request.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NewType

Html = NewType("Html", str)

STYLE = (Path(__file__).parent / "style.css").read_text("utf-8")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Cell:
    """Of a table, where its text alone does not say everything. `heat` from 0 to 1 is how wrong it is."""

    text: str
    small: str = ""
    kind: str = ""
    """good, bad, better, worse or nothing: a class of the style."""
    heat: float = 0
    numeric: bool = True


def page(*, title: str, outcome: str, headline: str, notes: Sequence[str], body: Iterable[Html], data: object) -> str:
    """`outcome` is one word, said first; `headline` the sentence beside it; `data` what all of it was made of."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(outcome.upper())}: {escape(title)}</title>\n"
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header><p>{escape(title)}</p>"
        f'<div class="verdict {escape(outcome)}"><h1>{escape(outcome.upper())}</h1><div><p>{escape(headline)}</p>'
        f"{bullets(notes)}</div></div></header>\n"
        + "\n".join(body)
        + f'\n</main>\n<script type="application/json" id="report">{embedded(data)}</script>\n</body>\n</html>\n'
    )


def embedded(data: object) -> str:
    """JSON that cannot end the element around it, whatever it holds."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def section(heading: str, *parts: Html, text: str = "") -> Html:
    words = f"<p>{escape(text)}</p>" if text else ""
    return Html(f"<section><h2>{escape(heading)}</h2>{words}{''.join(parts)}</section>")


def columns(*parts: Html) -> Html:
    """Beside each other where there is room."""
    return Html(f'<div class="columns">{"".join(parts)}</div>')


def tiles(facts: Sequence[tuple[str, str, str]]) -> Html:
    """(name, value, what goes with it): the figures that are read first."""
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(small)}</small></dd></div>"
        for name, value, small in facts
    )
    return Html(f'<dl class="tiles">{inner}</dl>')


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[Cell | str]], *, kind: str = "", text: str = ""
) -> Html:
    """The first cell of a row is its heading."""
    lines = list(rows)
    head = "".join(
        _heading(one, [line[place] for line in lines] if place else None) for place, one in enumerate(header)
    )
    body = "".join(f"<tr>{_row(line)}</tr>" for line in lines)
    small = f"<small>{escape(text)}</small>" if text else ""
    return Html(
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}"><table class="{escape(kind)}">'
        f"<caption>{escape(caption)}{small}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(caption: str, values: Mapping[str, object]) -> Html:
    """Names and their values."""
    rows: list[list[Cell | str]] = [
        [name.replace("_", " "), Cell(_plain(value), numeric=False)] for name, value in values.items()
    ]
    return table(caption, ["name", "value"], rows, kind="facts")


def bullets(lines: Sequence[str]) -> Html:
    return Html(f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>" if lines else "")


def paragraph(text: str, code: str = "") -> Html:
    return Html(f"<p>{escape(text)}" + (f" <code>{escape(code)}</code>" if code else "") + "</p>")


def write(text: str, path: Path) -> None:
    """Replace the file in one step: a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def _heading(name: str, cells: Sequence[Cell | str] | None) -> str:
    """Aligned as its column is; that of the headings of the rows has no cells."""
    numeric = cells is not None and all(cell.numeric for cell in cells if isinstance(cell, Cell))
    attributes = ' class="number"' if numeric else ""
    return f'<th scope="col"{attributes}>{escape(name)}</th>'


def _row(row: Sequence[Cell | str]) -> str:
    first, *others = row
    name = first.text if isinstance(first, Cell) else first
    return f'<th scope="row">{escape(name)}</th>' + "".join(_cell(one) for one in others)


def _cell(one: Cell | str) -> str:
    cell = one if isinstance(one, Cell) else Cell(one)
    classes = " ".join(filter(None, [cell.kind, "number" if cell.numeric else ""]))
    attributes = f' class="{escape(classes)}"' if classes else ""
    if cell.heat:
        attributes += f' style="--heat: {cell.heat:.0%}"'
    small = f"<small>{escape(cell.small)}</small>" if cell.small else ""
    return f"<td{attributes}>{escape(cell.text)}{small}</td>"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
