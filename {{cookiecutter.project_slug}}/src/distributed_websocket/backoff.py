"""How long to wait before trying again: exponential, with full jitter, so that many who failed together spread out.

Source of the rule: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015 ("full jitter").
"""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(first_seconds: float = 0.1, longest_seconds: float = 5.0) -> Iterator[float]:
    """Seconds to wait before the first, second, ... new try: each random between 0 and a ceiling that doubles."""
    ceiling = first_seconds
    while True:
        yield random.uniform(0, ceiling)
        ceiling = min(2 * ceiling, longest_seconds)
