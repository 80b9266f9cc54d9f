"""The faults: each does its harm, says whom it hits, and returns when nothing more will happen. Cancelled or not, what
can be undone is undone then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from .crowd import Crowd
from .member import Member
from .schedule import FaultName, Planned
from .stack import Stack

FLOOD_MESSAGE = "x" * 32_000
FLOOD_MESSAGES = 1000
"""To each room of those who do not read: 32 MB. Half of that can lie in the sockets between a client and its worker;
where more can, they keep their connections and read everything late."""
FLOOD_SECONDS = 8


@dataclass
class Scene:
    """What a fault has to do with."""

    stack: Stack
    crowd: Crowd
    planned: Planned
    seconds: float
    """How long what can last shall last."""
    say: Callable[[str], None]
    hit: Sequence[Member] = ()
    struck_at: float | None = None
    """Monotonic seconds; None before the fault has begun."""

    def strike(self, members: Sequence[Member], what: str) -> None:
        """From now on it is measured what becomes of the clients; `members` are those who are hit."""
        self.hit = list(members)
        self.struck_at = time.monotonic()
        self.crowd.watch()
        self.say(f"{what}; that hits {len(self.hit):,} clients")


async def kill_worker(scene: Scene) -> None:
    worker = scene.planned.target
    scene.strike(scene.crowd.at(worker), f"{worker} is killed")
    await scene.stack.kill(worker)


async def roll_workers(scene: Scene) -> None:
    scene.strike(scene.crowd.members, "the workers are restarted one after the other")
    await scene.stack.command("rolling-restart")


async def kill_gateway(scene: Scene) -> None:
    gateway = scene.planned.target
    # Which gateway a client came through is not known; with several, some of these stay.
    scene.strike(scene.crowd.members, f"{gateway} is killed")
    await scene.stack.kill(gateway)


async def restart_redis(scene: Scene) -> None:
    scene.strike(scene.crowd.members, "Redis is restarted")
    await scene.stack.command("restart", "redis")


async def freeze_redis(scene: Scene) -> None:
    scene.strike(scene.crowd.members, f"Redis is frozen for {scene.seconds:.0f} s")
    async with scene.stack.frozen("redis"):
        await asyncio.sleep(scene.seconds)


async def cut_worker(scene: Scene) -> None:
    worker = scene.planned.target
    scene.strike(scene.crowd.at(worker), f"{worker} loses its connections to Redis")
    await scene.stack.cut_from_redis(worker)


async def partition_worker(scene: Scene) -> None:
    worker = scene.planned.target
    scene.strike(scene.crowd.at(worker), f"{worker} is parted from Redis for {scene.seconds:.0f} s")
    async with scene.stack.parted_from_redis(worker):
        await asyncio.sleep(scene.seconds)


async def stall_clients(scene: Scene) -> None:
    crowd = scene.crowd
    stalled = [crowd.members[number] for number in scene.planned.members]
    rooms = sorted({member.topic for member in stalled})
    others = [[m for m in crowd.members if m.topic == topic and m not in stalled] for topic in rooms]
    scene.strike(stalled, f"clients stop reading for {scene.seconds:.0f} s while their rooms are flooded")
    for member in stalled:
        member.stall()
    try:
        end = time.monotonic() + scene.seconds
        for number in range(FLOOD_MESSAGES):
            for readers in others:
                readers[number % len(readers)].say(time.monotonic_ns(), FLOOD_MESSAGE)
            await asyncio.sleep(min(FLOOD_SECONDS, scene.seconds) / FLOOD_MESSAGES)
        await asyncio.sleep(max(0, end - time.monotonic()))
    finally:
        for member in stalled:
            member.read_on()


async def drop_clients(scene: Scene) -> None:
    dropped = [scene.crowd.members[number] for number in scene.planned.members]
    scene.strike(dropped, "clients lose their connections at once")
    for member in dropped:
        member.drop()


FAULTS: dict[FaultName, Callable[[Scene], Awaitable[None]]] = {
    FaultName.KILL_WORKER: kill_worker,
    FaultName.ROLL_WORKERS: roll_workers,
    FaultName.KILL_GATEWAY: kill_gateway,
    FaultName.RESTART_REDIS: restart_redis,
    FaultName.FREEZE_REDIS: freeze_redis,
    FaultName.CUT_WORKER: cut_worker,
    FaultName.PARTITION_WORKER: partition_worker,
    FaultName.STALL_CLIENTS: stall_clients,
    FaultName.DROP_CLIENTS: drop_clients,
}

ENDS_CONNECTIONS = frozenset(
    {FaultName.KILL_WORKER, FaultName.ROLL_WORKERS, FaultName.KILL_GATEWAY, FaultName.DROP_CLIENTS}
)
HOLDS_UP = frozenset({FaultName.FREEZE_REDIS, FaultName.PARTITION_WORKER})
FELT_MESSAGES = 40
"""With fewer, a fault that holds things up may be over before anybody has said something."""


def why_in_doubt(fault: FaultName, *, seconds: float, messages: float, lost: int, longest_wait_ms: float) -> str | None:
    """Why it seems that a fault did not happen; None where it did.

    It was to last for `seconds`, in which `messages` were due; `lost` clients lost their connection, and those who were
    hit waited for `longest_wait_ms` at most.
    """
    if fault in ENDS_CONNECTIONS and not lost:
        return "every client kept its connection"
    if fault in HOLDS_UP and messages >= FELT_MESSAGES and longest_wait_ms < 1000 * seconds / 2:
        return f"nobody had to wait for longer than {longest_wait_ms / 1000:.1f} s"
    return None
