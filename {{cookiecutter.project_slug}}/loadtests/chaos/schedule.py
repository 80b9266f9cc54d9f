"""`plan`: which fault strikes whom, and in which order. A seed decides it all, so that a run can be repeated. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

STALLED_SHARE = 0.05
DROPPED_SHARE = 1 / 3
CALM_SECONDS = (0.5, 1.5)
"""Between what happened before a fault and the fault: from, to."""


class FaultName(StrEnum):
    KILL_WORKER = "kill-worker"
    ROLL_WORKERS = "roll-workers"
    KILL_GATEWAY = "kill-gateway"
    RESTART_REDIS = "restart-redis"
    FREEZE_REDIS = "freeze-redis"
    CUT_WORKER = "cut-worker"
    PARTITION_WORKER = "partition-worker"
    STALL_CLIENTS = "stall-clients"
    DROP_CLIENTS = "drop-clients"


STRIKES_A_WORKER = frozenset({FaultName.KILL_WORKER, FaultName.CUT_WORKER, FaultName.PARTITION_WORKER})


@dataclass(frozen=True)
class Planned:
    """One fault. `target` is a process, `members` the numbers of the clients that misbehave; either may be empty."""

    fault: FaultName
    target: str
    members: tuple[int, ...]
    calm_seconds: float


def plan(
    seed: int, faults: Sequence[FaultName], *, workers: Sequence[str], gateways: Sequence[str], users: int, rooms: int
) -> list[Planned]:
    """The faults in the order in which they strike. Member k is in room k modulo `rooms`."""
    dice = random.Random(seed)
    order = list(faults)
    dice.shuffle(order)
    return [
        Planned(
            fault,
            _target(fault, dice, workers, gateways),
            _members(fault, dice, users, rooms),
            round(dice.uniform(*CALM_SECONDS), 3),
        )
        for fault in order
    ]


def _target(fault: FaultName, dice: random.Random, workers: Sequence[str], gateways: Sequence[str]) -> str:
    if fault in STRIKES_A_WORKER:
        return dice.choice(workers)
    if fault is FaultName.KILL_GATEWAY:
        return dice.choice(gateways)
    if fault in (FaultName.RESTART_REDIS, FaultName.FREEZE_REDIS):
        return "redis"
    return ""


def _members(fault: FaultName, dice: random.Random, users: int, rooms: int) -> tuple[int, ...]:
    if fault is FaultName.DROP_CLIENTS:
        return tuple(sorted(dice.sample(range(users), math.ceil(DROPPED_SHARE * users))))
    if fault is FaultName.STALL_CLIENTS:
        # Together in few rooms, so that these can be given more than those who do not read can leave untaken; but
        # half of a room at most: the others must go on there.
        left = math.ceil(STALLED_SHARE * users)
        chosen: list[int] = []
        for room in dice.sample(range(rooms), rooms):
            inside = list(range(room, users, rooms))
            dice.shuffle(inside)
            chosen += inside[: min(left - len(chosen), len(inside) // 2)]
        return tuple(sorted(chosen))
    return ()
