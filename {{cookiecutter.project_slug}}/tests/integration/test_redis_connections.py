"""A crowd of clients and a real Redis that answers late: nobody is refused, and the log's own commands least of all."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from distributed_websocket import RedisBroker
from distributed_websocket.brokers.interface import START, Place, Record
from distributed_websocket.brokers.redis_client import OneServer
from distributed_websocket.brokers.redis_streams import SPARE_CONNECTIONS
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.redis_server import RedisServer

MESSAGE = Record("room/1", b'{"n":1}')
CROWD = 2 * SPARE_CONNECTIONS


async def test_a_crowd_that_asks_while_redis_is_slow_takes_no_connection_from_the_log(
    own_redis: RedisServer, channel: str
) -> None:
    """They had one pool, which refused at once: with 109 requests under way, senders and readers got errors."""
    broker = RedisBroker(own_redis.url, shards=1, command_timeout_seconds=3 * DEADLINE_SECONDS)
    assert isinstance(broker._client, OneServer)
    pool = broker._client._pool
    (position,) = await broker.append(channel, 0, [MESSAGE])
    own_redis.freeze()
    crowd: list[asyncio.Task[Any]] = []
    for _ in range(CROWD):
        crowd.append(asyncio.create_task(broker.range_back(channel, 0, "", limit=1)))
        crowd.append(asyncio.create_task(broker.presence_members(channel, 0, "room/1", limit=1)))
        crowd.append(asyncio.create_task(broker.extent(channel, 0, known=(position, ""))))
    await eventually(lambda: broker._spare.locked() or any(task.done() for task in crowd))
    own: list[Coroutine[Any, Any, Any]] = [
        broker.append(channel, 0, [MESSAGE]),
        broker.read(channel, 0, START, limit=1, wait_seconds=1),
        broker.extent(channel, 0, known=(position, "")),
        broker.presence_change(channel, 0, "chat-1#a", [Place("room/1", "alice")], (), lives_seconds=60),
    ]
    log = [asyncio.create_task(coroutine) for coroutine in own]
    in_use = SPARE_CONNECTIONS + len(own)  # all extents together take one
    await eventually(lambda: len(pool._in_use_connections) == in_use or any(task.done() for task in log))
    own_redis.thaw()
    stored, (entry,), extent, _ = await asyncio.gather(*log)
    assert len(stored) == 1
    assert (entry.position, extent.first) == (position, position)
    await asyncio.gather(*crowd)
    await broker.disconnect()
