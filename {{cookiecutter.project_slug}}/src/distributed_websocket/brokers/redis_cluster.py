"""`ClusterClient`: which node of a Redis Cluster holds a key, and what to do when that changes.

Source of the rules: the Redis Cluster specification, "Redirection and resharding" and "Client connections".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from .redis_client import Address, Command, RedisClient, exchange

PAUSE_SECONDS: Final = 0.05
"""Before asking again while a slot is on its way from one node to another, or has no primary."""

LOOK_UP_SECONDS: Final = 1.0
"""For one node to say who holds which slots: it may be the one that died."""


class ClusterClient(RedisClient):
    """Keeps a pool for each node and a map of the slots.

    What a node refuses with MOVED, ASK, TRYAGAIN or CLUSTERDOWN was not carried out, so it is sent again where it
    belongs, as long as `answer_seconds` allows. A connection that failed makes the map doubtful: it is looked up again
    before the next command.
    """

    def __init__(self, seeds: Sequence[Address], options: dict[str, Any], answer_seconds: float) -> None:
        super().__init__(answer_seconds)
        self._seeds = list(seeds)
        self._options = options
        self._pools: dict[Address, ConnectionPool] = {}
        self._owners: list[tuple[range, Address]] = []
        self._looking = asyncio.Lock()

    async def run(self, key: str, commands: Sequence[Command], *, waits_seconds: float = 0.0) -> list[Any]:
        slot = key_slot(key.encode())
        asked: Address | None = None
        async with self._within(waits_seconds):
            while True:
                try:
                    if asked is not None:
                        return await self._ask(asked, commands)
                    return await self._send(await self._owner(slot), commands)
                except MovedError as exc:  # before AskError, of which redis-py makes it a kind
                    moved = range(slot, slot + 1)
                    others = [owner for owner in self._owners if owner[0] != moved]
                    self._owners = [(moved, Address(exc.host, exc.port)), *others]
                except AskError as exc:
                    asked = Address(exc.host, exc.port)
                    continue
                except TryAgainError:
                    await asyncio.sleep(PAUSE_SECONDS)
                except ClusterDownError:
                    self._owners.clear()
                    await asyncio.sleep(PAUSE_SECONDS)
                asked = None

    async def _send(self, address: Address, commands: Sequence[Command]) -> list[Any]:
        try:
            return await exchange(self._pool(address), commands)
        except ResponseError:
            raise
        except BaseException:  # also a read that was given up on: the node may be dead
            self._owners.clear()
            raise

    async def _ask(self, address: Address, commands: Sequence[Command]) -> list[Any]:
        """Send to a node that is about to get the slot; `ASKING` counts for one command."""
        answers = await self._send(address, [part for command in commands for part in (("ASKING",), command)])
        return answers[1::2]

    def _pool(self, address: Address) -> ConnectionPool:
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = ConnectionPool(host=address.host, port=address.port, **self._options)
        return pool

    async def _owner(self, slot: int) -> Address:
        if not self._owners:
            async with self._looking:
                self._owners = self._owners or await self._look_up()
        for slots, address in self._owners:
            if slot in slots:
                return address
        raise ClusterDownError("Hash slot not served")

    async def _look_up(self) -> list[tuple[range, Address]]:
        """Ask one node after the other, in random order, who holds which slots."""
        nodes = list({*self._pools, *self._seeds})
        random.shuffle(nodes)
        failure: Exception = ConnectionError("no node of the cluster")
        for node in nodes:
            try:
                async with asyncio.timeout(min(LOOK_UP_SECONDS, self.answer_seconds)):
                    (table,) = await exchange(self._pool(node), [("CLUSTER SLOTS",)])
            except (RedisError, OSError) as exc:
                failure = exc
                continue
            owners = [(range(row[0], row[1] + 1), _address(row[2], node)) for row in table]
            known = {_address(member, node) for row in table for member in row[2:]}
            if owners:
                await self._forget_all_but(known)
                return owners
        raise failure

    async def _forget_all_but(self, known: set[Address]) -> None:
        for address in self._pools.keys() - known:
            pool = self._pools.pop(address)
            # Those in use end when they are given back.
            await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
            await pool.disconnect(inuse_connections=False)

    async def reconnect(self) -> None:
        self._owners.clear()
        for pool in list(self._pools.values()):
            await pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


def _address(member: list[Any], asked: Address) -> Address:
    """A node of the table; it may leave out the host, which is then the one that was asked."""
    return Address(member[0].decode() if member[0] else asked.host, member[1])
