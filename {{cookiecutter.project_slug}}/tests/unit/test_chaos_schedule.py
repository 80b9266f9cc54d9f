"""Which fault strikes whom: a seed decides it, and another one decides otherwise."""

import pytest

from loadtests.chaos.schedule import STRIKES_A_WORKER, FaultName, Planned, plan

WORKERS = ("chat-1", "chat-2", "chat-3")
GATEWAYS = ("gateway-1", "gateway-2")


def planned(seed: int = 1, faults: tuple[FaultName, ...] = tuple(FaultName), users: int = 100) -> list[Planned]:
    return plan(seed, faults, workers=WORKERS, gateways=GATEWAYS, users=users, rooms=10)


def only(fault: FaultName, seed: int = 1, users: int = 100) -> Planned:
    (one,) = planned(seed, (fault,), users)
    return one


def test_the_same_seed_plans_the_same() -> None:
    assert planned(7) == planned(7)


def test_another_seed_plans_otherwise() -> None:
    assert len({tuple(planned(seed)) for seed in range(5)}) == 5


def test_every_fault_that_is_asked_for_strikes_once() -> None:
    assert sorted(one.fault for one in planned()) == sorted(FaultName)
    assert only(FaultName.FREEZE_REDIS).fault is FaultName.FREEZE_REDIS


def test_what_strikes_a_process_names_it() -> None:
    for one in planned():
        if one.fault in STRIKES_A_WORKER:
            assert one.target in WORKERS
    assert only(FaultName.KILL_GATEWAY).target in GATEWAYS
    assert only(FaultName.FREEZE_REDIS).target == "redis"
    assert only(FaultName.ROLL_WORKERS).target == ""


def test_every_worker_has_its_turn() -> None:
    assert {only(FaultName.KILL_WORKER, seed).target for seed in range(30)} == set(WORKERS)


@pytest.mark.parametrize(("users", "dropped", "stalled"), [(20, 7, 1), (100, 34, 5), (2000, 667, 100)])
def test_a_third_drops_and_five_percent_stall(users: int, dropped: int, stalled: int) -> None:
    assert len(set(only(FaultName.DROP_CLIENTS, users=users).members)) == dropped
    assert len(set(only(FaultName.STALL_CLIENTS, users=users).members)) == stalled


def test_those_who_stall_leave_half_of_their_room_to_the_others() -> None:
    stalled = only(FaultName.STALL_CLIENTS, users=400).members
    rooms = [number % 10 for number in stalled]
    assert len(set(rooms)) == 1
    assert len(stalled) == 20  # of the 40 in that room
    rooms = [number % 10 for number in only(FaultName.STALL_CLIENTS, users=20).members]
    assert all(rooms.count(room) == 1 for room in rooms)
