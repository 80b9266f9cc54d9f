"""Charts as SVG: a scale for each axis, its ticks, and lines, steps or bars between them. Pure.

Colours and fonts come from the page's style (`s1` … `s8` are the series), so that one drawing serves light, dark and
print. Each series has a dash pattern of its own besides: colour alone is lost on paper and on some eyes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from .document import Html

WIDTH, HEIGHT = 560, 240
WIDE = 1120
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 40
TICKS = 5
COLOURS = 8
ROW_HEIGHT = 24

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Series:
    """A line is interrupted where there is no value."""

    name: str
    points: Points
    colour: int | None = None
    """From 1 to 8; without one the chart's series take them in turn."""


@dataclass(frozen=True)
class Band:
    """Something that lasted, from one place on the x axis to another."""

    begin: float
    end: float
    label: str


@dataclass(frozen=True)
class Chart:
    """What is drawn. `limit` is a line across that should not be passed, `mark` one upright that shows a place."""

    title: str
    description: str
    """For those who cannot see it."""
    x_label: str
    y_label: str
    series: Sequence[Series]
    bands: Sequence[Band] = ()
    limit: tuple[float, str] | None = None
    mark: tuple[float, str] | None = None
    log_x: bool = False
    log_y: bool = False
    steps: bool = False
    """Filled from the axis up, each value as wide as its interval: for a histogram."""
    dots: bool = False
    y_floor: float = 0
    """Where a linear y axis begins."""
    min_span: float = 1e-9
    """The y axis is at least so long: noise must not look like a mountain."""


@dataclass(frozen=True)
class Scale:
    """From values to pixels, linear or logarithmic."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        return round(self.begin + (min(value, high) - low) / (high - low) * (self.end - self.begin), 1)

    def ticks(self) -> list[float]:
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def linear_ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Round values from `low` to `high`, about `count` of them."""
    rough = (high - low) / count
    magnitude: float = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each power of ten; the powers alone where that would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        within = [round(tick, 12) for tick in found if low * 0.999 <= tick <= high * 1.001]
        if len(within) <= TICKS + 3:
            break
    return within


def number(value: float) -> str:
    """As short as it can be read: 12k, 3.5, 0.25."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * factor or (abs(value) >= factor and value % (factor / 10) == 0):
            return f"{value / factor:.4g}{letter}"
    return f"{value:.4g}"


def draw(chart: Chart) -> Html:
    """The figure: its title, the legend and the drawing."""
    values = [(x, y) for one in chart.series for x, y in one.points if y is not None]
    if not values:
        return Html(f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption><p>No data.</p></figure>')
    horizontal, vertical = _scales(chart, values)
    drawing = [*_grid(chart, horizontal, vertical), *_bands(chart, horizontal)]
    for place, one in enumerate(chart.series):
        colour = _colour(one, place)
        drawing.append(_steps(one, horizontal, vertical, colour) if chart.steps else "")
        drawing += [] if chart.steps else _line(one, horizontal, vertical, colour, dots=chart.dots)
    drawing += _notes(chart, horizontal, vertical)
    return _figure(chart, drawing, HEIGHT)


def draw_rows(title: str, description: str, bands: Sequence[Band], end: float) -> Html:
    """A row for each band: what happened when, on an axis of seconds."""
    height = TOP + ROW_HEIGHT * len(bands) + BOTTOM
    horizontal = Scale(0, max(end, 1), RIGHT, WIDE - RIGHT)
    bottom = height - BOTTOM
    drawing = [*_vertical_lines(horizontal, TOP, bottom), *_axis_names("seconds", "", height, WIDE)]
    for place, band in enumerate(bands):
        top = TOP + ROW_HEIGHT * place + 4
        begin, stop = horizontal(band.begin), horizontal(band.end)
        width = max(2.0, round(stop - begin, 1))
        drawing.append(f'<rect class="bar" x="{begin}" y="{top}" width="{width}" height="{ROW_HEIGHT - 8}" rx="3"/>')
        left_of = stop > WIDE * 0.6
        where = f'x="{begin - 6}" text-anchor="end"' if left_of else f'x="{begin + width + 6}"'
        drawing.append(f'<text class="name" {where} y="{top + 12}">{escape(band.label)}</text>')
    return _figure(Chart(title, description, "seconds", "", ()), drawing, height, WIDE)


def _scales(chart: Chart, values: Sequence[tuple[float, float]]) -> tuple[Scale, Scale]:
    xs, ys = [x for x, _ in values], [y for _, y in values]
    if chart.limit:
        ys.append(chart.limit[0])
    if chart.mark:
        xs.append(chart.mark[0])
    xs += [edge for band in chart.bands for edge in (band.begin, band.end)]
    low_x, high_x = (max(min(xs), 1e-3), max(xs)) if chart.log_x else (min(0.0, *xs), max(xs))
    if high_x <= low_x:
        high_x = low_x * 2 or 1
    if chart.log_y:
        low_y = 10 ** math.floor(math.log10(max(min(ys), 1e-2)))
        high_y = max(ys) * 1.3
    else:
        low_y = chart.y_floor
        high_y = max(max(ys) + (max(ys) - low_y) * 0.08, low_y + chart.min_span)
    return (
        Scale(low_x, high_x, LEFT, WIDTH - RIGHT, chart.log_x),
        Scale(low_y, max(high_y, low_y * 1.01), HEIGHT - BOTTOM, TOP, chart.log_y),
    )


def _colour(one: Series, place: int) -> int:
    return one.colour or place % COLOURS + 1


def _grid(chart: Chart, horizontal: Scale, vertical: Scale) -> Iterable[str]:
    yield from _vertical_lines(horizontal, TOP, HEIGHT - BOTTOM)
    for tick in vertical.ticks():
        y = vertical(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(tick)}</text>'
    yield from _axis_names(chart.x_label, chart.y_label, HEIGHT)


def _vertical_lines(horizontal: Scale, top: float, bottom: float) -> Iterable[str]:
    for tick in horizontal.ticks():
        x = horizontal(tick)
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{number(tick)}</text>'


def _axis_names(x_label: str, y_label: str, height: int, width: int = WIDTH) -> Iterable[str]:
    middle = (LEFT + width - RIGHT) / 2
    yield f'<text class="axis" x="{middle}" y="{height - 6}" text-anchor="middle">{escape(x_label)}</text>'
    if y_label:
        place = f'transform="translate(13 {(TOP + height - BOTTOM) / 2}) rotate(-90)"'
        yield f'<text class="axis" {place} text-anchor="middle">{escape(y_label)}</text>'


def _bands(chart: Chart, horizontal: Scale) -> Iterable[str]:
    for band in chart.bands:
        begin, end = horizontal(band.begin), horizontal(band.end)
        width = max(1.0, round(end - begin, 1))
        yield (
            f'<rect class="band" x="{begin}" y="{TOP}" width="{width}" height="{HEIGHT - TOP - BOTTOM}">'
            f"<title>{escape(band.label)}</title></rect>"
        )


def _line(one: Series, horizontal: Scale, vertical: Scale, colour: int, *, dots: bool) -> Iterable[str]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in one.points:
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((horizontal(x), vertical(y)))
    for piece in filter(None, pieces):
        if dots or len(piece) == 1:
            yield from (f'<circle class="s{colour}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in piece)
        yield f'<polyline class="s{colour}" points="{" ".join(f"{x},{y}" for x, y in piece)}"/>'


def _steps(one: Series, horizontal: Scale, vertical: Scale, colour: int) -> str:
    """`points` are (left edge of an interval, value); the last one's value closes the drawing."""
    path = []
    for (left, y), (right, _) in zip(one.points, one.points[1:], strict=False):
        path += [f"{horizontal(left)},{vertical(y or 0)}", f"{horizontal(right)},{vertical(y or 0)}"]
    if not path:
        return ""
    ground = vertical(vertical.low)
    first, last = horizontal(one.points[0][0]), horizontal(one.points[-1][0])
    return f'<polygon class="area s{colour}" points="{first},{ground} {" ".join(path)} {last},{ground}"/>'


def _notes(chart: Chart, horizontal: Scale, vertical: Scale) -> Iterable[str]:
    if chart.limit:
        y = vertical(chart.limit[0])
        yield f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        text_y = y - 5 if y > TOP + 14 else y + 14
        yield f'<text class="limit" x="{LEFT + 6}" y="{text_y}">{escape(chart.limit[1])}</text>'
    if chart.mark:
        x = horizontal(chart.mark[0])
        left_of = x > WIDTH * 0.6
        place = f'x="{x - 6}" text-anchor="end"' if left_of else f'x="{x + 6}"'
        yield f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text class="mark" {place} y="{HEIGHT - BOTTOM - 8}">{escape(chart.mark[1])}</text>'


def _figure(chart: Chart, drawing: Iterable[str], height: int, width: int = WIDTH) -> Html:
    name = "chart-" + "".join(letter if letter.isalnum() else "-" for letter in chart.title.lower())
    wide = " wide" if width > WIDTH else ""
    legend = "".join(
        '<li><svg viewBox="0 0 24 8" aria-hidden="true">'
        f'<line class="s{_colour(one, place)}" x2="24" y1="4" y2="4"/></svg>{escape(one.name)}</li>'
        for place, one in enumerate(chart.series)
    )
    return Html(
        f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>'
        + (f'<ul class="legend">{legend}</ul>' if len(chart.series) > 1 else "")
        + f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(chart.title)}">'
        f'<svg class="drawing{wide}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name} {name}-text">'
        f'<title id="{name}">{escape(chart.title)}</title><desc id="{name}-text">{escape(chart.description)}</desc>'
        + "".join(drawing)
        + "</svg></div></figure>"
    )
