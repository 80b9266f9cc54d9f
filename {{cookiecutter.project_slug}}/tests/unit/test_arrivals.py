"""Positions for a service without a log: the ledger's judgement stays as strict."""

from loadtests.arrivals import Arrivals
from loadtests.audit import Audit, audit
from loadtests.ledger import Ledger, Subscription


class Room:
    """Two workers with a listener each, and messages through the first."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.arrivals = Arrivals(self.ledger)
        self.a, self.b = (
            self.ledger.open(user, "room/1", worker, self.arrivals.newest())
            for user, worker in (("a", "chat-1"), ("b", "chat-2"))
        )

    def send(self, count: int) -> None:
        for _ in range(count):
            self.ledger.send("room/1", "chat-1", 0)

    def acknowledge(self, *messages: int) -> None:
        for message in messages:
            assert self.arrivals.acknowledge(message)
            assert not self.arrivals.acknowledge(message), "a second ack counts for nothing"

    def deliver(self, to: Subscription, *messages: int) -> None:
        for message in messages:
            self.ledger.deliver(to, message, self.arrivals.deliver(message), 1)

    def judge(self) -> Audit:
        self.arrivals.close()
        return audit(self.ledger)


def test_what_reached_everybody_once_and_in_one_order_is_whole() -> None:
    room = Room()
    room.send(3)
    room.acknowledge(1)  # before anybody has it, and before an earlier one
    room.deliver(room.a, 0, 1)
    room.acknowledge(0)
    room.deliver(room.b, 0, 1, 2)
    room.deliver(room.a, 2)
    assert not room.ledger.settled()
    room.acknowledge(2)
    assert room.ledger.settled()
    judged = room.judge()
    assert (judged.ratio, judged.duplicates, judged.out_of_order, judged.stale) == (1.0, 0, 0, 0)
    assert (judged.acknowledged, judged.position_conflicts, judged.shared_positions) == (3, 0, 0)


def test_what_was_acknowledged_and_reached_nobody_is_missing_for_everybody() -> None:
    room = Room()
    room.send(2)
    room.acknowledge(0, 1)
    room.deliver(room.a, 0)
    room.deliver(room.b, 0)
    judged = room.judge()
    assert (judged.acknowledged, judged.expected, judged.delivered) == (2, 4, 2)


def test_what_reached_one_and_not_the_other_is_missing_there() -> None:
    room = Room()
    room.send(2)
    room.acknowledge(0, 1)
    room.deliver(room.a, 0, 1)
    room.deliver(room.b, 1)
    judged = room.judge()
    assert judged.pairs["chat-1", "chat-1"].missing == 0
    assert judged.pairs["chat-1", "chat-2"].missing == 1


def test_another_order_and_a_repetition_are_found() -> None:
    room = Room()
    room.send(2)
    room.acknowledge(0, 1)
    room.deliver(room.a, 0, 1)
    room.deliver(room.b, 1, 0, 0)
    judged = room.judge()
    assert (judged.out_of_order, judged.duplicates, judged.missing) == (1, 1, 0)


def test_who_comes_later_is_owed_nothing_of_before() -> None:
    room = Room()
    room.send(2)
    room.acknowledge(0)
    room.deliver(room.a, 0)
    room.deliver(room.b, 0)
    late = room.ledger.open("late", "room/1", "chat-1", room.arrivals.newest())
    room.acknowledge(1)
    for one in (room.a, room.b, late):
        room.deliver(one, 1)
    judged = room.judge()
    assert (judged.expected, judged.delivered) == (5, 5)
