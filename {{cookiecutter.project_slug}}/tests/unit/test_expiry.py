"""A token that ends: its connection is told, may renew it, and is closed after a while."""

import asyncio
import time

import pytest

from distributed_websocket import CloseCode
from distributed_websocket.expiry import Expiry
from tests.deadline import eventually
from tests.wire import RawWire, raw_connection


class Clock:
    """The event loop's clock, which the test puts forward."""

    def __init__(self) -> None:
        self._real = asyncio.get_running_loop().time
        self._ahead = 0.0

    def time(self) -> float:
        return self._real() + self._ahead

    async def passes(self, seconds: float) -> None:
        """Return when all that is due in this time was done."""
        over = asyncio.create_task(asyncio.sleep(seconds))
        await asyncio.sleep(0)  # its first step: it sleeps
        self._ahead += seconds
        await over


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", made.time)
    return made


async def test_a_connection_is_told_and_then_closed(clock: Clock) -> None:
    raw = RawWire()
    expires_at = time.time() + 600
    Expiry(raw_connection(raw), expires_at, grace_seconds=60)
    await clock.passes(500)
    assert raw.received == []
    await clock.passes(101)
    assert raw.received == [{"type": "token_expired", "expires_at": expires_at, "grace_seconds": 60}]
    await clock.passes(50)
    assert raw.ends == []
    await clock.passes(11)
    assert raw.ends == [CloseCode.TOKEN_EXPIRED]


async def test_a_token_that_ended_already_is_told_at_once() -> None:
    raw = RawWire()
    expiry = Expiry(raw_connection(raw), 0.0, grace_seconds=60)
    await eventually(lambda: raw.received)
    expiry.cancel()
    expiry.cancel()


async def test_a_fresh_token_in_the_grace_period_keeps_the_connection(clock: Clock) -> None:
    raw = RawWire()
    expiry = Expiry(raw_connection(raw), 0.0, grace_seconds=60)
    await eventually(lambda: raw.received)
    expiry.renew(time.time() + 600)
    await clock.passes(120)
    assert (raw.ends, len(raw.received)) == ([], 1)
    expiry.cancel()
