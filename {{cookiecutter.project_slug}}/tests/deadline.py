"""Waiting for a condition, with a deadline: no test sleeps for luck."""

import asyncio
from collections.abc import Callable

DEADLINE_SECONDS = 10.0


async def eventually(condition: Callable[[], object], within_seconds: float = DEADLINE_SECONDS) -> None:
    """Return when the condition holds; fail when it does not within the deadline."""
    try:
        async with asyncio.timeout(within_seconds):
            while not condition():  # noqa: ASYNC110 - any condition, whoever makes it hold
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"not within {within_seconds} s: {condition.__doc__ or condition}") from None
