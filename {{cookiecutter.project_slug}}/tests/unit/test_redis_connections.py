"""How the connections of a `RedisBroker` are shared out; the client is a stand-in that holds what clients ask for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from distributed_websocket import RedisBroker
from distributed_websocket.brokers import redis_streams
from distributed_websocket.brokers.interface import Entry, Extent, Record
from distributed_websocket.brokers.redis_client import Command, RedisClient
from distributed_websocket.brokers.redis_streams import SPARE_CONNECTIONS
from distributed_websocket.exceptions import BrokerError
from tests.deadline import DEADLINE_SECONDS, eventually

CLIENTS = 2 * SPARE_CONNECTIONS
ANSWERS: dict[object, Any] = {
    "XREVRANGE": [],
    "XRANGE": [],
    "HLEN": 0,
    "HSCAN": [b"0", []],
    redis_streams._EXTENT.sha: [b"epoch", b"1-0", b"1-0", 1, 0],
    redis_streams._APPEND.sha: [b"epoch", b"2-0"],
}


class HeldClient(RedisClient):
    """Answers a command of a kind that is held when it is let go, and all others at once."""

    def __init__(self) -> None:
        super().__init__(answer_seconds=1)
        self.held: set[str] = set()
        self.under_way = 0
        self.most = 0
        self.asked: list[Command] = []
        self.failures: list[Exception] = []
        self._let_go = asyncio.Event()

    def let_go(self) -> None:
        self.held.clear()
        self._let_go.set()

    async def run(self, key: str, commands: Sequence[Command], *, waits_seconds: float = 0.0) -> list[Any]:
        self.asked += commands
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if commands[0][0] in self.held:
                await self._let_go.wait()
            if self.failures:
                raise self.failures.pop()
            return [ANSWERS[command[1] if command[0] == "EVALSHA" else command[0]] for command in commands]
        finally:
            self.under_way -= 1

    async def reconnect(self) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
async def client() -> HeldClient:
    return HeldClient()


@pytest.fixture
async def broker(client: HeldClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisBroker]:
    monkeypatch.setattr(redis_streams, "open_client", lambda *_, **__: client)
    broker = RedisBroker("redis://h", shards=1)
    yield broker
    client.let_go()
    await broker.disconnect()


def history(broker: RedisBroker) -> "asyncio.Task[list[Entry]]":
    return asyncio.create_task(broker.range_back("channel", 0, "", limit=1))


def look(broker: RedisBroker, known: tuple[str, str] = ("", "")) -> "asyncio.Task[Extent]":
    return asyncio.create_task(broker.extent("channel", 0, known=known))


async def test_what_clients_ask_for_takes_turns_and_keeps_nothing_from_the_log(
    broker: RedisBroker, client: HeldClient
) -> None:
    client.held = {"XREVRANGE", "XRANGE", "HLEN"}
    asked: list[asyncio.Task[Any]] = []
    for _ in range(CLIENTS):
        asked.append(history(broker))
        asked.append(asyncio.create_task(broker.range("channel", 0, "0-0", "1-0", limit=1)))
        asked.append(asyncio.create_task(broker.presence_members("channel", 0, "room/1", limit=1)))
    await eventually(lambda: client.under_way >= SPARE_CONNECTIONS)
    assert await broker.append("channel", 0, [Record("room/1", b"{}")]) == ["2-0"]
    assert await broker.extent("channel", 0) == Extent("epoch", "1-0", "1-0", 1, 0)
    assert client.under_way == SPARE_CONNECTIONS
    assert not any(task.done() for task in asked)
    client.let_go()
    await asyncio.gather(*asked)
    assert client.most == SPARE_CONNECTIONS + 1


async def test_who_has_no_turn_within_the_deadline_is_told_so_and_leaves_the_turn_to_others(
    broker: RedisBroker, client: HeldClient
) -> None:
    client.held = {"XREVRANGE"}
    asked = [history(broker) for _ in range(SPARE_CONNECTIONS)]
    await eventually(lambda: client.under_way == SPARE_CONNECTIONS)
    broker._timeout_seconds = 0.01
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(BrokerError, match=r"could not read from Redis: no turn within 0\.01 s behind 100 others"):
            await history(broker)
        with pytest.raises(BrokerError, match="could not read presence from Redis: no turn within"):
            await broker.presence_members("channel", 0, "room/1", limit=1)
    client.let_go()
    await asyncio.gather(*asked)
    await asyncio.gather(*(history(broker) for _ in range(SPARE_CONNECTIONS)))


async def test_a_client_that_gives_up_gives_its_turn_away(broker: RedisBroker, client: HeldClient) -> None:
    client.held = {"XREVRANGE"}
    asked = [history(broker) for _ in range(CLIENTS)]
    await eventually(lambda: client.under_way == SPARE_CONNECTIONS)
    for task in asked[: SPARE_CONNECTIONS // 2]:
        task.cancel()
    for task in asked[-10:]:  # and these have none yet
        task.cancel()
    await eventually(lambda: len(client.asked) == SPARE_CONNECTIONS + SPARE_CONNECTIONS // 2)
    client.let_go()
    await asyncio.wait(asked)
    assert sum(not task.cancelled() for task in asked) == CLIENTS - SPARE_CONNECTIONS // 2 - 10
    assert client.most == SPARE_CONNECTIONS


async def test_those_who_ask_for_the_extent_during_a_look_share_the_next_one(
    broker: RedisBroker, client: HeldClient
) -> None:
    """What is told to them must not be older than their question; and no crowd comes before the reader."""
    client.held = {"EVALSHA"}
    first = look(broker, ("1-0", "epoch"))
    await eventually(lambda: client.under_way)
    others = [look(broker, (f"{number}-0", "epoch")) for number in range(2, CLIENTS)]
    await asyncio.sleep(0)
    assert len(client.asked) == 1
    client.let_go()
    assert set(await asyncio.gather(first, *others)) == {Extent("epoch", "1-0", "1-0", 1, 0)}
    assert [command[-2] for command in client.asked] == ["1-0", f"{CLIENTS - 1}-0"]
    await look(broker)
    assert len(client.asked) == 3


async def test_who_gives_up_on_a_look_ends_it_for_nobody_else(broker: RedisBroker, client: HeldClient) -> None:
    client.held = {"EVALSHA"}
    impatient, patient = look(broker), look(broker)
    await eventually(lambda: client.under_way)
    impatient.cancel()
    await asyncio.wait([impatient])
    client.let_go()
    assert (await patient).epoch == "epoch"
    assert len(client.asked) == 1


async def test_a_look_that_fails_fails_for_those_who_share_it_and_no_other(
    broker: RedisBroker, client: HeldClient
) -> None:
    client.held = {"EVALSHA"}
    client.failures = [ConnectionResetError("gone")]
    sharing = [look(broker), look(broker)]
    await eventually(lambda: client.under_way)
    behind = look(broker)
    await asyncio.sleep(0)
    client.let_go()
    for task in sharing:
        with pytest.raises(BrokerError, match="could not look at the log in Redis: gone"):
            await task
    assert (await behind).epoch == "epoch"


async def test_a_look_that_fails_when_nobody_waits_any_more_is_no_error(
    broker: RedisBroker, client: HeldClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    client.held = {"EVALSHA"}
    client.failures = [ConnectionResetError("gone")]
    asking = look(broker)
    await eventually(lambda: client.under_way)
    asking.cancel()
    await asyncio.wait([asking])
    client.let_go()
    await eventually(lambda: not client.under_way)
    await look(broker)
    broker._looks.clear()
    assert caplog.records == []


async def test_a_look_over_an_old_connection_is_waited_for_by_nobody_after_reconnecting(
    broker: RedisBroker, client: HeldClient
) -> None:
    client.held = {"EVALSHA"}
    stuck = look(broker)
    await eventually(lambda: client.under_way)
    await broker.reconnect()
    client.held = set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await look(broker)).epoch == "epoch"
    assert not stuck.done()
    client.let_go()
    await stuck
