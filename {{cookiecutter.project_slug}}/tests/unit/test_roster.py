"""A worker's connections: found by id, counted by user, and as many as may be."""

from http import HTTPStatus

import pytest

from distributed_websocket import Connection
from distributed_websocket.limits import Limits
from distributed_websocket.roster import Roster
from tests.wire import RawWire, raw_connection


def add(roster: Roster, conn_id: str, user: str | None = None) -> Connection:
    """A connection that was admitted."""
    assert roster.admit(user, draining=False) is None
    connection = raw_connection(RawWire())
    connection.id, connection.user = conn_id, user
    roster.add(connection)
    return connection


def status(roster: Roster, user: str | None = None, *, draining: bool = False) -> HTTPStatus | None:
    refusal = roster.admit(user, draining=draining)
    return None if refusal is None else refusal.status


def test_connections_are_kept_in_the_order_in_which_they_came() -> None:
    roster = Roster(Limits())
    one, two, three = (add(roster, conn_id) for conn_id in ("1", "2", "3"))
    roster.remove(two)
    assert list(roster) == list(roster.everybody()) == [one, three]
    assert len(roster) == 2
    assert one in roster
    assert two not in roster


def test_several_connections_may_have_the_same_id() -> None:
    roster = Roster(Limits())
    one, other = add(roster, "same"), add(roster, "same")
    assert roster.with_ids(["same", "nobody's", "same"]) == {one, other}
    roster.remove(one)
    assert roster.with_ids(["same"]) == {other}
    roster.remove(other)
    assert roster.with_ids(["same"]) == set()


def test_a_connection_that_was_renamed_is_found_by_its_new_id_alone() -> None:
    roster = Roster(Limits())
    one, other = add(roster, "old"), add(roster, "old")
    roster.rename(one, "new")
    assert roster.with_ids(["new"]) == {one}
    assert roster.with_ids(["old"]) == {other}
    roster.remove(one)
    assert roster.with_ids(["new"]) == set()


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(connections=2), HTTPStatus.SERVICE_UNAVAILABLE),
        (Limits(connections_per_user=2), HTTPStatus.TOO_MANY_REQUESTS),
    ],
)
def test_handshakes_that_are_under_way_together_cannot_pass_a_limit_together(
    limits: Limits, expected: HTTPStatus
) -> None:
    roster = Roster(limits)
    assert [status(roster, "alice") for _ in range(3)] == [None, None, expected]
    roster.cancel("alice")
    assert [status(roster, "alice") for _ in range(2)] == [None, expected]


def test_a_worker_that_drains_takes_nobody() -> None:
    roster = Roster(Limits())
    assert status(roster, draining=True) is HTTPStatus.SERVICE_UNAVAILABLE
    assert status(roster) is None


def test_users_who_left_leave_nothing_behind() -> None:
    roster = Roster(Limits())
    for number in range(10):
        roster.remove(add(roster, str(number), f"user-{number}"))
    assert roster._places == 0
    assert [len(kept) for kept in (roster._places_of, roster._by_id, roster._connections)] == [0, 0, 0]
