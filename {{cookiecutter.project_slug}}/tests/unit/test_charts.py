"""The charts: round ticks, and drawings in which every value is where it belongs."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.pages.charts import Band, Chart, Scale, Series, draw, draw_rows, linear_ticks, log_ticks, number
from loadtests.pages.figures import shares
from loadtests.report import Latency


def chart(*series: Series, **more: object) -> Chart:
    return Chart("A title", "What it shows", "seconds", "ms", series, **more)  # type: ignore[arg-type]


@given(st.floats(0, 1e9), st.floats(1e-3, 1e9))
def test_linear_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    ticks = linear_ticks(low, low + span)
    assert len(ticks) <= 11
    assert all(low - span / 100 <= tick <= low + span * 1.01 for tick in ticks)
    steps = {round(after - before, 9) for before, after in pairwise(ticks)}
    assert len(steps) <= 1 or max(steps) - min(steps) <= max(steps) * 1e-3


def test_ticks_are_numbers_that_people_would_choose() -> None:
    assert linear_ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert linear_ticks(0, 0.7) == [0, 0.2, 0.4, 0.6]
    assert log_ticks(1, 100) == [1, 2, 5, 10, 20, 50, 100]
    assert log_ticks(0.1, 100_000) == [0.1, 1, 10, 100, 1000, 10_000, 100_000]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (950, "950"), (1500, "1.5k"), (12_000, "12k"), (3e6, "3M"), (1234, "1234")],
)
def test_numbers_at_the_axes_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_a_scale_ends_where_it_is_told_to() -> None:
    linear, log = Scale(0, 10, 100, 200), Scale(1, 100, 100, 200, log=True)
    assert (linear(0), linear(5), linear(10)) == (100, 150, 200)
    assert (log(1), log(10), log(100)) == (100, 150, 200)
    assert log(0) == 100, "nothing is left of the axis"


def test_a_line_is_interrupted_where_there_is_no_value() -> None:
    drawn = draw(chart(Series("p50", [(0, 1), (1, 2), (2, None), (3, 4), (4, 5)])))
    assert drawn.count("<polyline") == 2


def test_a_single_value_is_a_dot() -> None:
    assert draw(chart(Series("p50", [(0, 1), (1, None)]))).count("<circle") == 1


def test_what_is_higher_is_drawn_higher() -> None:
    drawn = draw(chart(Series("p50", [(0, 1), (1, 9)])))
    points = re.search(r'points="([\d.]+),([\d.]+) ([\d.]+),([\d.]+)"', drawn)
    assert points
    x1, y1, x2, y2 = map(float, points.groups())
    assert x1 < x2
    assert y1 > y2


def test_a_limit_a_mark_and_bands_are_drawn_and_named() -> None:
    drawn = draw(
        chart(Series("a", [(0, 1), (9, 2)]), limit=(5, "at most 5"), mark=(3, "here"), bands=[Band(1, 2, "<fault>")])
    )
    assert "at most 5" in drawn
    assert "here" in drawn
    assert "&lt;fault&gt;" in drawn


def test_without_values_it_says_so() -> None:
    assert "No data." in draw(chart(Series("a", [(0, None)])))


def test_series_have_a_legend_and_lines_of_their_own() -> None:
    drawn = draw(chart(Series("one", [(0, 1), (1, 1)]), Series("two", [(0, 2), (1, 2)]), Series("three", [], 7)))
    assert re.findall(r"</svg>(\w+)</li>", drawn) == ["one", "two", "three"]
    assert 'class="s1" points' in drawn
    assert 'class="s2" points' in drawn
    assert 'class="s7" x2' in drawn


def test_names_are_text_wherever_they_are_drawn() -> None:
    drawn = draw(chart(Series("<b>one", [(0, 1)]), Series("two", [(0, 2)]), limit=(1, "<b>"), mark=(0, "<b>")))
    assert "<b>" not in drawn
    assert "<b>" not in draw_rows("<b>", "<b>", [Band(0, 1, "<b>")], end=1)


def test_each_band_has_a_row() -> None:
    drawn = draw_rows("Faults", "two", [Band(0, 1, "first"), Band(5, 6, "second")], end=10)
    assert drawn.count('class="bar"') == 2
    assert ">first<" in drawn
    assert ">second<" in drawn


@given(st.dictionaries(st.integers(1, 60_000_000), st.integers(1, 1000), max_size=50))
def test_the_bins_of_a_histogram_hold_everything(counts: dict[int, int]) -> None:
    edges = [(microseconds / 1000, count) for microseconds, count in sorted(counts.items())]
    latency = Latency(count=sum(counts.values()), p50=1, p95=1, p99=1, p99_9=1, max=1, histogram=edges)
    points = shares(latency)
    assert sum(share or 0 for _, share in points) == pytest.approx(100 if counts else 0)
    assert all(before < after for (before, _), (after, _) in pairwise(points))
