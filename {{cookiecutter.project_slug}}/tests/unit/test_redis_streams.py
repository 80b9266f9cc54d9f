"""What `RedisBroker` asks of Redis and makes of its answers, which are scripted; `test_brokers` has a real Redis."""

from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from distributed_websocket import RedisBroker
from distributed_websocket.brokers import redis_streams
from distributed_websocket.brokers.interface import PROBE_TOPIC, Record
from distributed_websocket.brokers.redis_client import Command, RedisClient, Script
from distributed_websocket.brokers.redis_streams import Durability
from distributed_websocket.exceptions import BrokerError

POSITION = "1763700000000-0"
MESSAGE = Record("room/1", b'{"n":1}')
PROBE = Record(PROBE_TOPIC, b"{}")


class ScriptedClient(RedisClient):
    """Gives these answers, one after the other; an exception among them is raised."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(answer_seconds=1)
        self.answers = list(answers)
        self.asked: list[Command] = []
        self.then: list[Command] = []

    def _answer(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run(self, key: str, commands: Sequence[Command], *, waits_seconds: float = 0.0) -> list[Any]:
        self.asked += commands
        return [self._answer() for _ in commands]

    async def call_script(
        self,
        script: Script,
        keys: Sequence[str],
        args: Command,
        then: Sequence[Command] = (),
        *,
        waits_seconds: float = 0.0,
    ) -> list[Any]:
        self.then += then
        return [self._answer() for _ in range(1 + len(then))]

    async def reconnect(self) -> None:
        self._answer()

    async def close(self) -> None: ...


def broker_of(
    monkeypatch: pytest.MonkeyPatch, *answers: Any, durability: Durability = "memory"
) -> tuple[RedisBroker, ScriptedClient]:
    client = ScriptedClient(*answers)
    monkeypatch.setattr(redis_streams, "open_client", lambda *_, **__: client)
    return RedisBroker("redis://h", shards=1, durability=durability, command_timeout_seconds=0.5), client


def stored(*positions: str) -> list[bytes]:
    """What the script of `append` answers: the epoch and the positions."""
    return [b"epoch", *(position.encode() for position in positions)]


@pytest.mark.parametrize(
    ("durability", "asked", "enough", "too_few"),
    [("disk", ("WAITAOF", 1, 0, 500), [1, 0], [0, 0]), ("replica", ("WAIT", 1, 500), 1, 0)],
)
async def test_a_record_counts_as_stored_when_it_is_where_it_must_be(
    monkeypatch: pytest.MonkeyPatch, durability: Durability, asked: Command, enough: Any, too_few: Any
) -> None:
    broker, client = broker_of(monkeypatch, stored(POSITION), enough, stored(POSITION), too_few, durability=durability)
    assert await broker.append("channel", 0, [MESSAGE]) == [POSITION]
    assert client.then == [asked]
    with pytest.raises(BrokerError, match=rf"stored, but not on .*{durability} within 0\.5 s"):
        await broker.append("channel", 0, [MESSAGE])


@pytest.mark.parametrize("durability", ["memory", "disk", "replica"])
async def test_what_is_not_kept_waits_for_neither_disk_nor_replica(
    monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    """A worker to which nobody writes is ready whether or not there is a replica."""
    broker, client = broker_of(monkeypatch, stored("1-0", "2-0"), durability=durability)
    assert await broker.append("channel", 0, [PROBE, MESSAGE._replace(ephemeral=True)]) == ["1-0", "2-0"]
    assert client.then == []


@pytest.mark.parametrize("failure", [ConnectionResetError("gone"), ResponseError("not now"), TimeoutError()])
async def test_every_failure_of_redis_is_a_broker_error_that_says_what_failed(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    broker, _ = broker_of(monkeypatch, *[failure] * 8)
    for doing, done in [
        ("connect to", broker.connect()),
        ("let go of", broker.reconnect()),
        ("append to", broker.append("channel", 0, [MESSAGE])),
        ("read from", broker.read("channel", 0, "0-0", limit=1, wait_seconds=0.1)),
        ("look at the log in", broker.extent("channel", 0)),
        ("change presence in", broker.presence_change("channel", 0, "chat-1#a", (), (), lives_seconds=1)),
        ("beat in", broker.presence_beat("channel", 0, "chat-1#a", lives_seconds=1)),
        ("read presence from", broker.presence_members("channel", 0, "room/1", limit=1)),
    ]:
        with pytest.raises(BrokerError, match=f"could not {doing} Redis: {str(failure) or 'TimeoutError'}"):
            await done


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_a_user_on_two_workers_is_one_member_since_the_first_of_them(
    monkeypatch: pytest.MonkeyPatch, oldest_first: bool
) -> None:
    """Redis gives the places in no order, and here on two pages."""
    places = [[b"alice\nchat-1#a", b"100"], [b"alice\nchat-2#b", b"200"]]
    if not oldest_first:
        places.reverse()
    broker, client = broker_of(monkeypatch, 1, [b"7", places[0]], [b"0", places[1]])
    members, total = await broker.presence_members("channel", 0, "room/1", limit=10)
    assert (members, total) == ([{"user": "alice", "worker": "chat-1", "since": 100}], 1)
    assert [command[2] for command in client.asked if command[0] == "HSCAN"] == [b"0", b"7"]


async def test_a_crowd_is_asked_for_until_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, _ = broker_of(monkeypatch, 5, [b"7", [b"alice\nchat-1#a", b"1", b"bob\nchat-1#a", b"2"]])
    members, total = await broker.presence_members("channel", 0, "room/1", limit=1)
    assert ([member["user"] for member in members], total) == (["alice"], 5)
