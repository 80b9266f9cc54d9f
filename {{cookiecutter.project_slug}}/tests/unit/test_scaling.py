"""In which order scaling and rolling restarts do things to a fleet, and where they stop."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from deploy.errors import BadSetting, RollStopped, StackError, WrongState
from deploy.fleet import Fleet, worker_names
from deploy.rolling import restart_one, rolling_restart
from deploy.scaling import scale
from deploy.settings import worker_count


class FakeFleet:
    """Notes what is done; `failing` does not start."""

    def __init__(self, count: int, *, unready: Sequence[str] = (), failing: str = "") -> None:
        self.workers = worker_names(count)
        self.unready = set(unready)
        self.failing = failing
        self.done: list[str] = []

    def unready_reason(self, name: str) -> str | None:
        return "the log is not heard" if name in self.unready else None

    def launch(self, name: str) -> None:
        self._start("launch", name)
        self.workers.append(name)

    def restart(self, name: str) -> None:
        self._start("restart", name)
        self.unready.discard(name)

    def retire(self, name: str) -> None:
        assert name == self.workers[-1]
        self.workers.pop()
        self.done.append(f"retire {name}")

    def balance(self, names: Sequence[str]) -> None:
        self.done.append(f"balance {' '.join(names)}".rstrip())

    def _start(self, what: str, name: str) -> None:
        self.done.append(f"{what} {name}")
        if name == self.failing:
            raise StackError(f"{name} ended")


def silent(line: str) -> None:
    """Nobody reads the progress here."""


def test_a_new_worker_gets_connections_after_it_is_ready() -> None:
    fleet = FakeFleet(1)
    scale(fleet, 3, silent)
    assert fleet.done == [
        "balance chat-1",
        "launch chat-2",
        "balance chat-1 chat-2",
        "launch chat-3",
        "balance chat-1 chat-2 chat-3",
    ]


def test_all_that_leave_are_out_of_the_balancer_before_the_first_drains() -> None:
    fleet = FakeFleet(4)
    scale(fleet, 2, silent)
    assert fleet.done == ["balance chat-1 chat-2", "retire chat-4", "retire chat-3"]


def test_scaling_stops_at_the_worker_that_fails_and_can_be_repeated() -> None:
    fleet = FakeFleet(1, failing="chat-3")
    with pytest.raises(StackError, match="chat-3 ended"):
        scale(fleet, 4, silent)
    assert fleet.done[-1] == "launch chat-3"
    assert fleet.workers == ["chat-1", "chat-2"]
    fleet.failing, fleet.done = "", []
    scale(fleet, 3, silent)
    assert fleet.done[1] == "launch chat-3"


def test_scaling_to_what_runs_changes_nothing_but_mends_the_balancer() -> None:
    fleet, said = FakeFleet(2), list[str]()
    scale(fleet, 2, said.append)
    assert fleet.done == ["balance chat-1 chat-2"]
    assert said == ["2 chat workers run, as asked for."]


def test_a_roll_takes_each_out_and_puts_it_back_before_the_next() -> None:
    fleet = FakeFleet(2)
    rolling_restart(fleet, silent)
    assert fleet.done == [
        "balance chat-2",
        "restart chat-1",
        "balance chat-1 chat-2",
        "balance chat-1",
        "restart chat-2",
        "balance chat-1 chat-2",
    ]


def test_a_roll_stops_at_the_worker_that_does_not_come_back_and_leaves_it_out() -> None:
    fleet = FakeFleet(3, failing="chat-2")
    with pytest.raises(RollStopped, match=r"(?s)chat-2 ended.*make rolling-restart"):
        rolling_restart(fleet, silent)
    assert fleet.done[-2:] == ["balance chat-1 chat-3", "restart chat-2"]


def test_a_roll_begins_with_the_worker_that_is_not_ready() -> None:
    fleet = FakeFleet(3, unready=["chat-3"])
    rolling_restart(fleet, silent)
    assert [done for done in fleet.done if "restart" in done] == [
        "restart chat-3",
        "restart chat-1",
        "restart chat-2",
    ]


def test_a_roll_takes_no_worker_away_while_another_is_not_ready() -> None:
    class NeverReady(FakeFleet):
        def restart(self, name: str) -> None:
            self._start("restart", name)

    fleet = NeverReady(2, unready=["chat-2"])
    with pytest.raises(WrongState, match=r"chat-2 is not ready \(the log is not heard\), so chat-1 stays"):
        rolling_restart(fleet, silent)
    assert "restart chat-1" not in fleet.done


def test_the_restart_of_the_only_worker_says_what_that_means() -> None:
    fleet, said = FakeFleet(1), list[str]()
    restart_one(fleet, "chat-1", said.append)
    assert fleet.done == ["balance", "restart chat-1", "balance chat-1"]
    assert "nobody can connect" in said[0]


@pytest.mark.parametrize("value", ["0", "65", "", "three", None])
def test_a_count_that_cannot_be_is_refused(value: str | None) -> None:
    with pytest.raises(BadSetting, match="a whole number from 1 to 64"):
        worker_count("WORKERS", value)


def test_the_fake_is_a_fleet() -> None:
    fleet: Fleet = FakeFleet(1)
    assert fleet.workers == ["chat-1"]
