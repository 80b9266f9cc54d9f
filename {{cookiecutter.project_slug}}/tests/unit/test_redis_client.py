"""One exchange with a Redis that is scripted: what becomes of its connection, and of an error among the answers."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ReadOnlyError, ResponseError

from distributed_websocket.brokers.redis_client import Command, OneServer, exchange


class ScriptedPool:
    """A pool of one connection, which gives these answers."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[Command] = []
        self.taken = False
        self.disconnected = False

    async def get_connection(self) -> "ScriptedPool":
        self.taken = True
        return self

    async def release(self, connection: object) -> None:
        self.taken = False

    def pack_commands(self, commands: Sequence[Command]) -> Sequence[Command]:
        return commands

    async def send_packed_command(self, commands: Sequence[Command]) -> None:
        self.sent += commands

    async def read_response(self, timeout: float) -> Any:  # noqa: ASYNC109 - the name is redis-py's
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def disconnect(self, inuse_connections: bool = True) -> None:
        self.disconnected = True
        self.taken = self.taken and not inuse_connections

    async def exchange(self, *commands: Command) -> list[Any]:
        return await exchange(cast(ConnectionPool, self), commands)


async def test_all_commands_are_sent_before_the_first_answer_is_read() -> None:
    pool = ScriptedPool(b"1", b"2")
    assert await pool.exchange(("A",), ("B",)) == [b"1", b"2"]
    assert pool.sent == [("A",), ("B",)]
    assert not pool.taken


async def test_of_several_errors_the_first_is_raised_when_all_answers_are_read() -> None:
    pool = ScriptedPool(b"1", ResponseError("first"), ResponseError("second"))
    with pytest.raises(ResponseError, match="first"):
        await pool.exchange(("A",), ("B",), ("C",))
    assert pool.answers == []
    assert not pool.taken
    assert not pool.disconnected


async def test_reconnecting_lets_go_of_what_nobody_uses_and_breaks_no_exchange() -> None:
    pool = ScriptedPool()
    await pool.get_connection()
    await OneServer(cast(ConnectionPool, pool), answer_seconds=1).reconnect()
    assert pool.disconnected
    assert pool.taken


async def test_a_lost_connection_is_given_back() -> None:
    pool = ScriptedPool(b"1", ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError):
        await pool.exchange(("A",), ("B",))
    assert not pool.taken


async def test_a_primary_that_has_become_a_replica_is_left() -> None:
    """Its connection is healthy, and every write over it would fail for ever; a new one may lead to the new primary."""
    pool = ScriptedPool(ReadOnlyError("You can't write against a read only replica."))
    with pytest.raises(ReadOnlyError):
        await pool.exchange(("SET", "k", 1))
    assert pool.disconnected
    assert not pool.taken
