"""`Histogram`: durations in logarithmic buckets, so that millions of them cost a few kilobytes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

_PRECISION_BITS = 8
"""Significant bits that a bucket keeps: its width is at most 1/128 of its value, 0.8 %."""


class Histogram:
    """Counts of durations by bucket. Values go in as nanoseconds and come out as milliseconds.

    A bucket is named by the smallest number of whole microseconds that it holds.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def record(self, nanoseconds: int) -> None:
        """Count one duration; a negative one (a clock that was set) counts as 0."""
        bucket = nanoseconds // 1000 if nanoseconds > 0 else 0
        shift = bucket.bit_length() - _PRECISION_BITS
        if shift > 0:
            bucket = bucket >> shift << shift
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    def add(self, other: Histogram) -> None:
        """Count everything that `other` holds here too."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    @classmethod
    def merged(cls, parts: Iterable[Histogram]) -> Histogram:
        whole = cls()
        for part in parts:
            whole.add(part)
        return whole

    def __len__(self) -> int:
        """How many durations were counted."""
        return sum(self.counts.values())

    def percentile(self, fraction: float) -> float | None:
        """The milliseconds within which that fraction (0 < fraction <= 1) ended, or `None` if nothing was counted.

        The upper edge of the bucket, so never less than what was measured.
        """
        total = len(self)
        if not total:
            return None
        rank = min(total, max(1, math.ceil(fraction * total)))
        for bucket in sorted(self.counts):
            rank -= self.counts[bucket]
            if rank <= 0:
                break
        return _upper_edge(bucket)

    def buckets(self) -> list[tuple[float, int]]:
        """(upper edge in milliseconds, count) of every bucket that is not empty, ascending."""
        return [(_upper_edge(bucket), self.counts[bucket]) for bucket in sorted(self.counts)]


def _upper_edge(bucket: int) -> float:
    return (bucket + (1 << max(0, bucket.bit_length() - _PRECISION_BITS))) / 1000
