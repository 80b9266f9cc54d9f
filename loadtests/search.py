"""The highest rate that holds: doubling until one fails, then halving the gap between the two."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Verdict(StrEnum):
    HELD = "held"
    FAILED = "failed"
    INVALID = "invalid"
    """The client was the bottleneck, so the step says nothing about the server."""


def highest_rate(attempt: Callable[[float], Verdict], start: float, *, least: float, tolerance: float) -> float | None:
    """The highest rate tried that was `HELD`; a rate above it by the share `tolerance` was not.

    An `INVALID` step bounds the search like a failed one: nothing above it can be measured. Returns `None` when not
    even `least` holds.
    """
    rate, held, missed = max(start, least), None, None
    while held is None or missed is None:
        if attempt(rate) is Verdict.HELD:
            held = rate
            rate *= 2
        elif rate <= least:
            return None
        else:
            missed = rate
            rate = max(rate / 2, least)
    while missed > held * (1 + tolerance):
        rate = (held * missed) ** 0.5
        if attempt(rate) is Verdict.HELD:
            held = rate
        else:
            missed = rate
    return held
