"""Which node of a Cluster is asked, and what each refusal of a node leads to. The nodes are scripted."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, ResponseError, TryAgainError

from distributed_websocket.brokers import redis_cluster
from distributed_websocket.brokers.redis_client import Address, Command
from distributed_websocket.brokers.redis_cluster import ClusterClient

ONE, TWO, THREE = Address("one", 1), Address("two", 2), Address("three", 3)
SLOT = key_slot(b"k")
GET: Command = ("GET", "k")


def table(*owners: tuple[int, int, Address]) -> list[list[Any]]:
    """The answer to CLUSTER SLOTS."""
    return [[[first, last, [address.host.encode(), address.port]] for first, last, address in owners]]


def everything_on(address: Address) -> list[list[Any]]:
    return table((0, 16_383, address))


class Nodes:
    """Answers, or errors, that each node gives in turn; the last one again and again."""

    def __init__(self) -> None:
        self.answers: dict[Address, deque[Any]] = defaultdict(deque)
        self.tables: dict[Address, deque[Any]] = defaultdict(deque)
        self.asked: list[tuple[Address, list[Command]]] = []

    async def exchange(self, pool: ConnectionPool, commands: Sequence[Command]) -> list[Any]:
        address = Address(pool.connection_kwargs["host"], pool.connection_kwargs["port"])
        looks_up = commands[0][0] == "CLUSTER SLOTS"
        script = (self.tables if looks_up else self.answers)[address]
        if not looks_up:
            self.asked.append((address, list(commands)))
        answer = script.popleft() if len(script) > 1 else script[0] if script else ConnectionError(f"{address} is down")
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    @property
    def addresses(self) -> list[Address]:
        return [address for address, _ in self.asked]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_cluster, "PAUSE_SECONDS", 0.001)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    scripted = Nodes()
    monkeypatch.setattr(redis_cluster, "exchange", scripted.exchange)
    return scripted


def client_of(*seeds: Address) -> ClusterClient:
    return ClusterClient(seeds, {}, answer_seconds=10)


async def test_the_node_that_holds_the_slot_is_asked_and_looked_up_once(nodes: Nodes) -> None:
    nodes.tables[ONE].append(table((0, SLOT - 1, ONE), (SLOT, SLOT, TWO), (SLOT + 1, 16_383, ONE)))
    nodes.answers[TWO].append(["v"])
    client = client_of(ONE)
    one, other = await asyncio.gather(client.run("k", [GET]), client.run("k", [GET]))
    assert one == other == ["v"]
    nodes.tables[ONE].clear()
    assert await client.run("k", [GET]) == ["v"]
    assert nodes.addresses == [TWO] * 3
    await client.close()


async def test_a_slot_that_moved_is_asked_for_at_its_new_node_from_then_on(nodes: Nodes) -> None:
    nodes.tables[ONE].append(everything_on(ONE))
    nodes.answers[ONE].append(MovedError(f"{SLOT} two:2"))
    nodes.answers[TWO] += [["new"], MovedError(f"{SLOT} three:3")]
    nodes.answers[THREE].append(["newer"])
    client = client_of(ONE)
    assert await client.run("k", [GET]) == ["new"]
    assert await client.run("k", [GET]) == ["newer"]
    assert await client.run("k", [GET]) == ["newer"]
    assert nodes.addresses == [ONE, TWO, TWO, THREE, THREE]


async def test_a_slot_on_its_way_is_asked_for_at_the_node_that_gets_it_this_once(nodes: Nodes) -> None:
    """`ASKING` counts for one command, and its answers are nobody's."""
    nodes.tables[ONE].append(everything_on(ONE))
    nodes.answers[ONE] += [AskError(f"{SLOT} two:2"), ["still here", "and this"]]
    nodes.answers[TWO].append(["OK", "there", "OK", "that too"])
    client = client_of(ONE)
    assert await client.run("k", [GET, GET]) == ["there", "that too"]
    assert nodes.asked[1] == (TWO, [("ASKING",), GET, ("ASKING",), GET])
    assert await client.run("k", [GET, GET]) == ["still here", "and this"]


async def test_keys_of_which_only_some_have_moved_are_tried_again_at_the_old_node(nodes: Nodes) -> None:
    nodes.tables[ONE].append(everything_on(ONE))
    nodes.answers[ONE] += [AskError(f"{SLOT} two:2"), ["v"]]
    nodes.answers[TWO].append(TryAgainError())
    client = client_of(ONE)
    assert await client.run("k", [GET]) == ["v"]
    assert nodes.addresses == [ONE, TWO, ONE]


async def test_a_cluster_that_is_down_is_looked_up_until_it_is_not(nodes: Nodes) -> None:
    nodes.tables[ONE] += [everything_on(ONE), everything_on(TWO)]
    nodes.answers[ONE].append(ClusterDownError("The cluster is down"))
    nodes.answers[TWO].append(["v"])
    assert await client_of(ONE).run("k", [GET]) == ["v"]
    assert nodes.addresses == [ONE, TWO]


async def test_a_slot_that_nobody_serves_is_waited_for(nodes: Nodes) -> None:
    nodes.tables[ONE] += [table((0, SLOT - 1, ONE)), everything_on(ONE)]
    nodes.answers[ONE].append(["v"])
    assert await client_of(ONE).run("k", [GET]) == ["v"]
    assert nodes.addresses == [ONE]


async def test_an_error_of_the_command_is_raised_and_the_map_kept(nodes: Nodes) -> None:
    nodes.tables[ONE] += [everything_on(ONE), everything_on(TWO)]
    nodes.answers[ONE] += [ResponseError("WRONGTYPE"), ["v"]]
    client = client_of(ONE)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.run("k", [GET])
    assert await client.run("k", [GET]) == ["v"]


async def test_a_lost_connection_is_raised_and_makes_the_map_doubtful(nodes: Nodes) -> None:
    """The command may have been carried out, so it is not sent again."""
    nodes.tables[ONE] += [everything_on(ONE), everything_on(TWO)]
    nodes.answers[ONE].append(ConnectionResetError("gone"))
    nodes.answers[TWO].append(["v"])
    client = client_of(ONE)
    with pytest.raises(ConnectionResetError):
        await client.run("k", [GET])
    assert await client.run("k", [GET]) == ["v"]
    assert nodes.addresses == [ONE, TWO]


@pytest.mark.parametrize(
    "failure", [ConnectionError("dead"), RedisError("loading"), []], ids=["dead", "loading", "new"]
)
async def test_a_node_that_knows_nothing_is_passed_over(nodes: Nodes, failure: Any) -> None:
    """One that is `new` belongs to no cluster yet: its table is empty."""
    nodes.tables[ONE].append([failure] if isinstance(failure, list) else failure)
    nodes.tables[TWO].append(everything_on(TWO))
    nodes.answers[TWO].append(["v"])
    for _ in range(10):  # they are asked in random order
        assert await client_of(ONE, TWO).run("k", [GET]) == ["v"]


async def test_where_no_node_answers_the_last_failure_is_raised(nodes: Nodes) -> None:
    with pytest.raises(ConnectionError, match="is down"):
        await client_of(ONE, TWO).run("k", [GET])
    nodes.tables[ONE].append([[]])
    with pytest.raises(ConnectionError, match="no node of the cluster"):
        await client_of(ONE).run("k", [GET])


async def test_a_node_that_left_the_cluster_is_forgotten(nodes: Nodes) -> None:
    nodes.tables[ONE] += [everything_on(TWO), everything_on(ONE)]
    nodes.tables[TWO].append(everything_on(ONE))
    nodes.answers[TWO].append(["from two"])
    nodes.answers[ONE].append(["from one"])
    client = client_of(ONE)
    assert await client.run("k", [GET]) == ["from two"]
    assert set(client._pools) == {TWO}
    await client.reconnect()
    assert await client.run("k", [GET]) == ["from one"]
    assert set(client._pools) == {ONE}


async def test_a_node_without_a_name_is_the_one_that_was_asked(nodes: Nodes) -> None:
    nodes.tables[ONE].append([[[0, 16_383, [b"", 7]]]])
    nodes.answers[Address("one", 7)].append(["v"])
    assert await client_of(ONE).run("k", [GET]) == ["v"]
