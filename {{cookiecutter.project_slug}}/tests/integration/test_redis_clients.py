"""How commands reach a real Redis: deadlines, connections that are let go of, scripts, and who hears anew."""

import asyncio

import pytest
from redis.exceptions import ResponseError

from distributed_websocket.brokers.clients import open_client
from distributed_websocket.brokers.redis_client import RedisClient, Script
from tests.redis_server import RedisServer
from tests.tcp_proxy import tcp_proxy


def client_of(port: int) -> RedisClient:
    return open_client(f"redis://127.0.0.1:{port}/0", answer_seconds=2.0, max_connections=10)


async def test_the_first_error_of_several_commands_is_raised_and_no_answer_is_left_behind(
    redis_server: RedisServer, channel: str
) -> None:
    client = client_of(redis_server.port)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.run(channel, [("SET", channel, 1), ("LPUSH", channel, 1), ("NO SUCH COMMAND",), ("DEL", channel)])
    assert await client.call("EXISTS", channel) == 0
    await client.close()


async def test_a_deadline_ends_the_exchange_and_its_late_answer_is_nobodys(
    own_redis: RedisServer, channel: str
) -> None:
    client = client_of(own_redis.port)
    assert await client.call("SET", channel, "old") == b"OK"
    own_redis.freeze()
    with pytest.raises(TimeoutError, match="no answer within 2 s"):
        await client.call("GET", channel)
    own_redis.thaw()
    assert await client.call("SET", channel, "new") == b"OK"
    await client.close()


async def test_what_waits_on_purpose_has_its_time_on_top(redis_server: RedisServer, channel: str) -> None:
    client = client_of(redis_server.port)
    assert await client.call("BLPOP", channel, "2.5", waits_seconds=2.5) is None
    await client.close()


async def test_connections_that_only_look_healthy_are_let_go_of(redis_server: RedisServer, channel: str) -> None:
    async with tcp_proxy(redis_server.port) as proxy:
        client = client_of(proxy.port)
        await client.call("GET", channel)
        proxy.swallow()
        await client.reconnect()
        assert await client.call("GET", channel) is None
        await client.close()


async def test_a_script_is_loaded_where_it_is_not_known_and_what_follows_it_is_answered(
    redis_server: RedisServer, channel: str
) -> None:
    client = client_of(redis_server.port)
    script = Script(f"return redis.call('INCR', KEYS[1]) -- {channel}")
    assert await client.call_script(script, [channel], [], [("PING",)]) == [1, b"PONG"]
    assert await client.call_script(script, [channel], []) == [2]
    await client.close()


async def test_many_commands_at_once_get_their_own_answers(redis_server: RedisServer) -> None:
    client = client_of(redis_server.port)
    calls = (client.run("", [("ECHO", f"{n}-{m}") for m in range(3)]) for n in range(10))
    answers = await asyncio.gather(*calls)
    assert answers == [[f"{n}-{m}".encode() for m in range(3)] for n in range(10)]
    await client.close()
