"""Percentiles from buckets: never below what was measured, and within one percent of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.histogram import Histogram

MS = 1_000_000


def filled(*nanoseconds: int) -> Histogram:
    histogram = Histogram()
    for value in nanoseconds:
        histogram.record(value)
    return histogram


def test_an_empty_histogram_has_no_percentile() -> None:
    assert filled().percentile(0.99) is None
    assert len(filled()) == 0


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=50), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_that_of_the_values_rounded_up_by_at_most_a_percent(values: list[int], fraction: float) -> None:
    exact = sorted(values)[math.ceil(fraction * len(values)) - 1] / MS
    measured = filled(*values).percentile(fraction)
    assert measured is not None
    assert exact <= measured <= exact * 1.008 + 0.001


def test_histograms_add_up() -> None:
    whole = Histogram.merged([filled(MS, 2 * MS), filled(3 * MS)])
    assert len(whole) == 3
    assert whole.percentile(1) == pytest.approx(3, rel=0.01)


def test_buckets_hold_every_value_in_ascending_order() -> None:
    buckets = filled(500 * MS, 1, 1, 3 * MS).buckets()
    assert [count for _, count in buckets] == [2, 1, 1]
    assert [edge for edge, _ in buckets] == sorted(edge for edge, _ in buckets)


def test_a_clock_that_went_back_counts_as_nothing() -> None:
    assert filled(-5 * MS).buckets() == [(0.001, 1)]


def test_a_million_values_take_few_buckets() -> None:
    assert len(filled(*range(0, 60_000 * MS, 600_000)).counts) < 2500
