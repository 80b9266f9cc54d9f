"""A report's page as a browser takes it apart: what it says, its tables, its charts, the data in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "hr", "input", "link"}
# In these everything is an element of its own in HTML, and closes itself.
SELF_CLOSING = {"line", "rect", "circle", "polyline", "polygon"}


@dataclass
class Page:
    verdict: str = ""
    headline: str = ""
    title: str = ""
    text: str = ""
    """All that can be read, without the style and the data."""
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    """Rows of cells by caption; small print in a cell follows after a line break."""
    charts: dict[str, str] = field(default_factory=dict)
    """The drawing, by title."""
    data: Any = None
    scripts: list[dict[str, str | None]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What is wrong with it: elements that do not close, headings without a scope, drawings without a title."""


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__(convert_charrefs=True)
        self.page = page
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.rows: list[list[str]] = []
        self.caption = ""
        self.raw = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (name := given.get("id")) is not None:
            if name in self.ids:
                self.page.faults.append(f"two elements have the id {name}")
            self.ids.add(name)
        if tag == "script":
            self.page.scripts.append(given)
        self.page.links += [value or "" for key, value in attrs if key in ("src", "href", "action", "xlink:href")]
        self.page.faults += [f"{tag} has {key}" for key, _ in attrs if key.startswith("on")]
        if tag == "th" and given.get("scope") not in ("col", "row"):
            self.page.faults.append("a th without a scope")
        if tag == "table":
            self.rows, self.caption = [], ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag == "small" and {"th", "td"} & set(self.open):
            self.rows[-1][-1] += "\n"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in SELF_CLOSING:
            self.page.faults.append(f"{tag} cannot close itself")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.page.faults.append(f"</{tag}> closes nothing")
        if tag == "table":
            if not self.caption:
                self.page.faults.append("a table without a caption")
            self.page.tables[self.caption] = self.rows
        if tag == "script":
            self.page.data, self.raw = json.loads(self.raw), ""

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script":
            self.raw += data
            return
        if inside == "style":
            return
        self.page.text += data + "\n"
        if inside == "title" and "svg" not in self.open:
            self.page.title += data
        if inside == "h1":
            self.page.verdict += data
        if inside == "p" and "header" in self.open and self.page.verdict and not self.page.headline:
            self.page.headline = data
        if inside == "caption":
            self.caption += data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data


def parsed(text: str) -> Page:
    """Asserts that it is whole, needs no network, runs nothing and can be read aloud."""
    page = Page()
    reader = _Reader(page)
    reader.feed(text)
    reader.close()
    for drawing in re.findall(r'<svg class="drawing.*?</svg>', text, re.DOTALL):
        title = re.search(r"<title id=[^>]*>([^<]*)</title><desc id=[^>]*>[^<]+</desc>", drawing)
        if title is None:
            page.faults.append(f"a drawing without a title and a description: {drawing[:200]}")
        else:
            page.charts[title[1]] = drawing
    if reader.open:
        page.faults.append(f"never closed: {reader.open}")
    assert page.faults == []
    assert [script.get("type") for script in page.scripts] == ["application/json"]
    assert not [link for link in page.links if "//" in link or link.startswith(("data:", "javascript:"))]
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    return page
