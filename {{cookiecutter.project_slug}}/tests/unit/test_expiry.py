"""A token that ends: its connection is told, may renew it, and is closed after a while."""

import asyncio
import time

from distributed_websocket import CloseCode
from distributed_websocket.expiry import Expiry
from tests.deadline import eventually
from tests.wire import RawWire, raw_connection


async def test_a_connection_is_told_and_then_closed() -> None:
    raw = RawWire()
    expires_at = time.time() + 0.02
    Expiry(raw_connection(raw), expires_at, grace_seconds=0.05)
    await eventually(lambda: raw.received)
    assert raw.received == [{"type": "token_expired", "expires_at": expires_at, "grace_seconds": 0.05}]
    assert raw.ends == []
    await eventually(lambda: raw.ends == [CloseCode.TOKEN_EXPIRED])


async def test_a_token_that_ended_already_is_told_at_once() -> None:
    raw = RawWire()
    expiry = Expiry(raw_connection(raw), 0.0, grace_seconds=60)
    await eventually(lambda: raw.received)
    expiry.cancel()
    expiry.cancel()


async def test_a_fresh_token_in_the_grace_period_keeps_the_connection() -> None:
    raw = RawWire()
    expiry = Expiry(raw_connection(raw), 0.0, grace_seconds=0.05)
    await eventually(lambda: raw.received)
    expiry.renew(time.time() + 60)
    await asyncio.sleep(0.1)
    assert (raw.ends, len(raw.received)) == ([], 1)
    expiry.cancel()
