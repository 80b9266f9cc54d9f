"""Random interleavings of publishing, subscribing, leaving, resuming and cut connections, on two workers of one log.

Every subscriber must have got each message of its topic behind its first position, once and in order; what the log
holds at the end is the truth that it is compared with. A failing seed replays.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from distributed_websocket import InMemoryBroker, Message, WebSocketManager, reading, requests
from distributed_websocket.brokers.interface import LogBroker
from distributed_websocket.positions import parse_position
from distributed_websocket.recovery import Tail, concerns
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.redis_server import RedisServer
from tests.wire import Fields, RawWire, Wire

PATTERNS = ["room/1", "room/2", "room/#", "room/+"]
STEPS = 250


class Subscriber:
    """A client that comes and goes, on this worker and that, and remembers how far it got."""

    def __init__(self, name: str, pattern: str) -> None:
        self.name = name
        self.pattern = pattern
        self.since: Fields | None = None
        self.start: str | None = None
        self.got: list[Fields] = []
        self.recovered: list[bool] = []
        self._manager: WebSocketManager | None = None
        self._raw = RawWire()
        self._wire = Wire(self._raw)
        self._asking: asyncio.Task[None] | None = None

    async def come(self, manager: WebSocketManager) -> None:
        self._raw = RawWire()
        self._wire = Wire(self._raw)
        connection = await manager.new_connection(self._wire.websocket, self.name)
        request: Fields = {"type": "subscribe", "topic": self.pattern}
        if self.since is not None:
            request["since"] = self.since
        self._manager, self._connection = manager, connection
        self._asking = asyncio.create_task(manager.receive(connection, request))

    async def go(self) -> None:
        """Leave as a lost connection does: whatever was under way ends."""
        if self._manager is None or self._asking is None:
            return
        self._asking.cancel()
        self._manager.remove_connection(self._connection)
        await asyncio.gather(self._asking, return_exceptions=True)
        self._manager = None
        self._take()

    def _take(self) -> None:
        for message in self._raw.received:
            if message["type"] == "subscribed":
                self.recovered.append(message.get("recovered", True))
                self.start = self.start or message["position"]
                self.since = {"position": message["position"], "epoch": message["epoch"]}
            elif message["type"] == "send":
                assert self.since is not None
                self.got.append(message)
                self.since = {**self.since, "position": message["id"]}

    async def stay_until(self, position: str, manager: WebSocketManager) -> None:
        """Have everything up to a position; come again, as clients do, where the log could not be read in time."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.is_at(position):
                if self._wire.close_codes or any(message["type"] == "error" for message in self._raw.received):
                    await self.go()
                    await self.come(manager)
                await asyncio.sleep(0.002)

    def is_at(self, position: str) -> bool:
        """Whether it has everything up to a position, counting what `go` has not taken yet."""
        ids = [message["id"] for message in self._raw.received if message["type"] == "send"]
        so_far = ids[-1] if ids else self.since["position"] if self.since else "0-0"
        return parse_position(so_far) >= parse_position(position)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages and a short memory, so that every way of catching up is taken."""
    monkeypatch.setattr(requests, "PAGE", 7)
    monkeypatch.setattr(requests, "PIECE_BYTES", 150)
    monkeypatch.setattr(reading, "READ_LIMIT", 5)
    monkeypatch.setattr(reading, "Tail", lambda floor="0-0": Tail(floor, max_entries=11))


@contextlib.asynccontextmanager
async def two_managers(redis_server: RedisServer | None, channel: str) -> AsyncIterator[list[WebSocketManager]]:
    shared = InMemoryBroker()
    async with contextlib.AsyncExitStack() as stack:
        managers = []
        for _ in range(2):
            manager = (
                WebSocketManager(channel, broker=shared, probe_seconds=0.2)
                if redis_server is None
                else WebSocketManager(channel, broker_url=redis_server.url, probe_seconds=0.2, shards=1)
            )
            managers.append(await stack.enter_async_context(manager))
        await eventually(lambda: all(manager.not_ready_reason is None for manager in managers))
        yield managers


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_everybody_gets_everything_once_and_in_order(
    where: str, seed: int, channel: str, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(seed)
    server: RedisServer | None = request.getfixturevalue("own_redis") if where == "redis" else None
    async with two_managers(server, channel) as managers:
        subscribers = [Subscriber(f"s{number}", rng.choice(PATTERNS)) for number in range(8)]
        control = redis.asyncio.Redis.from_url(server.url) if server is not None else None
        number = 0
        for _ in range(STEPS):
            action = rng.random()
            if action < 0.5:
                for _ in range(rng.randrange(1, 6)):
                    message = Message(topic=f"room/{rng.randrange(1, 4)}", data={"n": number})
                    rng.choice(managers).submit(message)
                    number += 1
            elif action < 0.9:
                subscriber = rng.choice(subscribers)
                await subscriber.go()
                if rng.random() < 0.8:
                    await subscriber.come(rng.choice(managers))
            elif action < 0.92 and control is not None:
                await control.client_kill_filter(_type="normal", skipme=True)
            for _ in range(rng.choice([0, 0, 1, 3, 20])):
                await asyncio.sleep(0)
            if rng.random() < 0.1:
                await asyncio.sleep(rng.random() / 50)
        if control is not None:
            await control.aclose()
        for subscriber in subscribers:
            await subscriber.go()
            await subscriber.come(rng.choice(managers))
        for manager in managers:
            await manager.feed.publisher.close(30)  # type: ignore[attr-defined]
        await check(managers[0], channel, subscribers)


async def check(manager: WebSocketManager, channel: str, subscribers: list[Subscriber]) -> None:
    broker = manager.broker
    assert isinstance(broker, LogBroker)
    entries = await broker.range(channel, 0, "0-0", (await broker.extent(channel, 0)).last, limit=100_000)
    wanted = {
        subscriber: [entry.position for entry in entries if concerns(entry, subscriber.pattern)]
        for subscriber in subscribers
    }
    await asyncio.gather(*(subscriber.stay_until(wanted[subscriber][-1], manager) for subscriber in subscribers))
    for subscriber in subscribers:
        await subscriber.go()
        assert subscriber.start is not None
        assert all(subscriber.recovered)
        start = parse_position(subscriber.start)
        got = [message["id"] for message in subscriber.got]
        assert got == [position for position in wanted[subscriber] if parse_position(position) > start]
