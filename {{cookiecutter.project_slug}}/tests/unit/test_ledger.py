"""The ledger and its audit, on services that are wrong in a known way: what was done to a message must be found."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.audit import Audit, audit
from loadtests.ledger import Ledger, Subscription, order

MS = 1_000_000
WORKERS = ("chat-1", "chat-2", "chat-3")

Deliveries = Sequence[int]


class Room:
    """A topic whose subscribers sit on all workers, and its log. The service's part is played by the test."""

    def __init__(self, ledger: Ledger, topic: str = "room/1", users_per_worker: int = 2) -> None:
        self.ledger = ledger
        self.topic = topic
        self.positions: dict[int, str] = {}
        self.members = [
            ledger.open(f"{worker}-user-{number}", topic, worker, "0-0", epoch="one")
            for worker in WORKERS
            for number in range(users_per_worker)
        ]

    def publish(self, worker: str, *, acknowledge: bool = True) -> int:
        message = self.ledger.send(self.topic, worker, intended_ns=0)
        self.positions[message] = f"1763700000000-{len(self.positions)}"
        if acknowledge:
            self.ledger.acknowledge(message, self.positions[message])
        return message

    def deliver(self, member: Subscription, messages: Deliveries) -> None:
        for message in messages:
            self.ledger.deliver(member, message, self.positions[message], now_ns=5 * MS)

    def at(self, worker: str) -> list[Subscription]:
        return [member for member in self.members if self.ledger.workers[member.worker] == worker]


def played(service: Callable[[str, list[int]], Deliveries], messages: int = 300) -> tuple[Ledger, Audit]:
    """A run in which `service(worker, messages)` says what the members at a worker receive."""
    ledger = Ledger()
    room = Room(ledger)
    sent = [room.publish(WORKERS[number % 3]) for number in range(messages)]
    for member in room.members:
        room.deliver(member, service(ledger.workers[member.worker], list(sent)))
    return ledger, audit(ledger)


def figures(result: Audit, what: str) -> dict[tuple[str, str], int]:
    """Where something is wrong."""
    return {pair: getattr(cell, what) for pair, cell in result.pairs.items() if getattr(cell, what)}


def test_a_service_that_delivers_everything_once_in_order_is_complete() -> None:
    ledger, result = played(lambda worker, sent: sent)
    assert {pair: cell.expected for pair, cell in result.pairs.items()} == {
        (origin, receiver): 100 * 2 for origin in WORKERS for receiver in WORKERS
    }
    assert result.ratio == 1
    assert (result.missing, result.duplicates, result.out_of_order, result.stale) == (0, 0, 0, 0)
    assert ledger.settled()


def test_a_service_that_drops_every_hundredth_is_told_which_and_between_whom() -> None:
    _, result = played(lambda worker, sent: [one for one in sent if worker != "chat-2" or one % 100 != 99])
    assert figures(result, "missing") == {(origin, "chat-2"): 2 for origin in WORKERS}, "99, 199 and 299, for two users"
    assert {(one.message, one.user) for one in result.pairs["chat-1", "chat-2"].examples} == {
        (99, "chat-2-user-0"),
        (99, "chat-2-user-1"),
    }
    assert result.pairs["chat-1", "chat-2"].examples[0].position == "1763700000000-99"
    assert result.ratio == 1 - 6 / 1800


def test_a_service_that_repeats_is_told_how_often_and_between_whom() -> None:
    _, result = played(lambda worker, sent: [*sent, 0, 0, 1] if worker == "chat-3" else sent)
    assert figures(result, "duplicates") == {("chat-1", "chat-3"): 4, ("chat-2", "chat-3"): 2}
    assert (result.missing, result.out_of_order) == (0, 0)


def test_a_message_twice_in_a_row_is_a_duplicate() -> None:
    _, result = played(lambda worker, sent: sorted([*sent, 7]) if worker == "chat-1" else sent)
    assert figures(result, "duplicates") == {("chat-2", "chat-1"): 2}


def test_a_service_that_reorders_is_told_which_senders_it_hit() -> None:
    def swap_two(worker: str, sent: list[int]) -> Deliveries:
        return [*sent[:10], sent[11], sent[10], *sent[12:]] if worker == "chat-2" else sent

    _, result = played(swap_two)
    assert figures(result, "out_of_order") == {("chat-2", "chat-2"): 2}, (
        "message 10 came from chat-2, after a later one"
    )
    assert (result.missing, result.duplicates) == (0, 0)


def test_workers_that_share_no_broker_are_found_between_every_two_of_them() -> None:
    ledger, result = played(lambda worker, sent: [one for one in sent if WORKERS[one % 3] == worker])
    assert figures(result, "missing") == {
        (origin, receiver): 200 for origin in WORKERS for receiver in WORKERS if origin != receiver
    }
    assert result.ratio == pytest.approx(1 / 3)
    assert not ledger.settled()


def test_subscribers_that_were_told_different_epochs_show_a_split_log() -> None:
    ledger = Ledger()
    ledger.open("a", "room/1", "chat-1", "0-0", epoch="one")
    ledger.open("b", "room/1", "chat-2", "0-0", epoch="two")
    ledger.open("c", "room/2", "chat-2", "0-0", epoch="two")
    assert audit(ledger).split_topics == ["room/1"]


def test_two_messages_at_one_position_are_counted() -> None:
    ledger = Ledger()
    for worker in WORKERS[:2]:
        ledger.acknowledge(ledger.send("room/1", worker, 0), "5-0")
    assert audit(ledger).shared_positions == 1


def test_a_second_position_for_a_message_is_counted() -> None:
    ledger = Ledger()
    room = Room(ledger)
    message = room.publish("chat-1")
    ledger.deliver(room.members[0], message, "1763700000000-7", 0)
    assert audit(ledger).position_conflicts == 1


def test_only_acknowledged_messages_are_expected_but_others_may_come() -> None:
    ledger = Ledger()
    room = Room(ledger)
    first, lost, last = room.publish("chat-1"), room.publish("chat-1", acknowledge=False), room.publish("chat-1")
    for member in room.at("chat-1"):
        room.deliver(member, [first, lost, last])
    for member in room.at("chat-2") + room.at("chat-3"):
        room.deliver(member, [first, last])
    result = audit(ledger)
    assert (result.sent, result.acknowledged) == (3, 2)
    assert (result.expected, result.delivered, result.duplicates, result.out_of_order) == (12, 12, 0, 0)
    assert not ledger.settled(), "an ack can still come"


def test_a_delivery_before_its_ack_counts() -> None:
    ledger = Ledger()
    room = Room(ledger)
    message = room.publish("chat-1", acknowledge=False)
    for member in room.members:
        room.deliver(member, [message])
    assert ledger.acknowledge(message, room.positions[message])
    assert not ledger.acknowledge(message, room.positions[message]), "the second ack is none"
    assert audit(ledger).ratio == 1


def test_nothing_before_the_position_of_a_subscription_is_expected() -> None:
    ledger = Ledger()
    room = Room(ledger, users_per_worker=0)
    before = room.publish("chat-1")
    member = ledger.open("late", "room/1", "chat-2", room.positions[before])
    after = room.publish("chat-1")
    room.deliver(member, [after])
    result = audit(ledger)
    assert (result.expected, result.delivered, result.stale) == (1, 1, 0)


def test_a_delivery_from_before_the_position_of_a_subscription_is_stale() -> None:
    ledger = Ledger()
    room = Room(ledger, users_per_worker=0)
    before = room.publish("chat-1")
    room.deliver(ledger.open("late", "room/1", "chat-2", room.positions[before]), [before])
    assert audit(ledger).stale == 1


def test_a_delivery_in_another_topic_is_misrouted() -> None:
    ledger = Ledger()
    room, other = Room(ledger), Room(ledger, "room/2")
    message = room.publish("chat-1")
    ledger.deliver(other.members[0], message, room.positions[message], 0)
    assert audit(ledger).misrouted == 1


@pytest.mark.parametrize("message", [-1, 1, 10**12])
def test_a_message_that_was_never_sent_is_foreign(message: int) -> None:
    ledger = Ledger()
    room = Room(ledger)
    room.publish("chat-1")
    assert ledger.deliver(room.members[0], message, "1-0", 0) is None
    assert not ledger.acknowledge(message, "1-0")
    assert (ledger.foreign, ledger.delivered_count) == (2, 0)


def test_what_was_on_its_way_to_a_closed_connection_is_not_expected() -> None:
    ledger = Ledger()
    room = Room(ledger, users_per_worker=1)
    messages = [room.publish("chat-1") for _ in range(4)]
    gone, *others = room.members
    room.deliver(gone, messages[:2])
    assert ledger.close(gone) == room.positions[messages[1]]
    for member in others:
        room.deliver(member, messages)
    assert audit(ledger).expected == 2 + 4 + 4
    assert audit(ledger).missing == 0


def test_a_hole_before_the_last_message_of_a_closed_connection_is_a_loss() -> None:
    ledger = Ledger()
    room = Room(ledger, users_per_worker=0)
    member = ledger.open("gone", "room/1", "chat-1", "0-0")
    messages = [room.publish("chat-2") for _ in range(3)]
    room.deliver(member, [messages[0], messages[2]])
    ledger.close(member)
    assert figures(audit(ledger), "missing") == {("chat-2", "chat-1"): 1}


def resumed(received: Callable[[list[int]], Deliveries], *, recovered: bool) -> tuple[Ledger, Audit]:
    """Ten messages; the client has the first four, drops, and comes back at another worker when there were seven."""
    ledger = Ledger()
    room = Room(ledger, users_per_worker=0)
    first = ledger.open("roamer", "room/1", "chat-1", "0-0")
    messages = [room.publish("chat-3") for _ in range(7)]
    room.deliver(first, messages[:4])
    ledger.close(first)
    second = ledger.open("roamer", "room/1", "chat-2", room.positions[messages[6]], previous=first, recovered=recovered)
    messages += [room.publish("chat-3") for _ in range(3)]
    room.deliver(second, received(messages))
    return ledger, audit(ledger)


def test_a_recovered_client_must_get_what_it_missed_at_its_new_worker() -> None:
    _, result = resumed(lambda messages: messages[4:], recovered=True)
    assert figures(result, "expected") == {("chat-3", "chat-1"): 4, ("chat-3", "chat-2"): 6}
    assert (result.missing, result.duplicates, result.unrecovered) == (0, 0, 0)


def test_a_recovered_client_with_a_hole_has_lost_messages() -> None:
    _, result = resumed(lambda messages: messages[7:], recovered=True)
    assert figures(result, "missing") == {("chat-3", "chat-2"): 3}


def test_a_recovered_client_that_gets_again_what_it_had_got_duplicates() -> None:
    _, result = resumed(lambda messages: messages[2:], recovered=True)
    assert figures(result, "duplicates") == {("chat-3", "chat-2"): 2}
    assert (result.missing, result.stale, result.out_of_order) == (0, 0, 0)


def test_a_client_that_was_not_recovered_is_counted_and_owed_only_what_came_after() -> None:
    _, result = resumed(lambda messages: messages[7:], recovered=False)
    assert (result.expected, result.missing, result.unrecovered) == (7, 0, 1)


def test_a_client_cannot_come_back_before_it_left() -> None:
    ledger = Ledger()
    first = ledger.open("a", "room/1", "chat-1", "0-0")
    with pytest.raises(ValueError, match="without closing"):
        ledger.open("a", "room/1", "chat-1", "0-0", previous=first)


def test_a_client_that_received_nothing_resumes_from_where_it_began() -> None:
    ledger = Ledger()
    assert ledger.close(ledger.open("a", "room/1", "chat-1", "7-1")) == "7-1"


def test_the_position_to_resume_from_is_the_highest_also_after_a_reordering() -> None:
    ledger = Ledger()
    room = Room(ledger)
    messages = [room.publish("chat-1") for _ in range(11)]
    room.deliver(room.members[0], [messages[10], messages[9]])
    assert ledger.close(room.members[0]) == "1763700000000-10", "10 is behind 9, though not as text"


@pytest.mark.parametrize("position", ["", "5", "a-b", "5-"])
def test_a_position_that_is_none_is_refused(position: str) -> None:
    ledger = Ledger()
    message = ledger.send("room/1", "chat-1", 0)
    with pytest.raises(ValueError, match=r"position|literal"):
        ledger.acknowledge(message, position)


def test_latency_is_kept_apart_by_origin_and_receiver() -> None:
    ledger = Ledger()
    member = ledger.open("a", "room/1", "chat-1", "0-0")
    for worker, milliseconds in (("chat-1", 2), ("chat-2", 40)):
        message = ledger.send("room/1", worker, intended_ns=1000 * MS)
        ledger.deliver(member, message, f"1-{message}", now_ns=(1000 + milliseconds) * MS)
    interval = ledger.tick()
    assert (interval.sent, interval.acknowledged, interval.delivered) == (2, 0, 2)
    assert interval.same.percentile(1) == pytest.approx(2, rel=0.01)
    assert interval.other.percentile(1) == pytest.approx(40, rel=0.01)
    assert ledger.tick().delivered == 0, "an interval holds what came in it"
    result = audit(ledger)
    assert result.latency(same_worker=True).percentile(1) == pytest.approx(2, rel=0.01)
    assert result.pairs["chat-2", "chat-1"].latency.percentile(1) == pytest.approx(40, rel=0.01)


def test_workers_are_listed_by_their_number() -> None:
    ledger = Ledger()
    for number in (10, 2, 1):
        ledger.open("a", "room/1", f"chat-{number}", "0-0")
    assert [pair.receiver for pair in audit(ledger).pairs.values()][:3] == ["chat-1", "chat-2", "chat-10"]


def test_a_ledger_of_many_deliveries_stays_small() -> None:
    ledger = Ledger()
    room = Room(ledger)
    messages = [room.publish("chat-1") for _ in range(20_000)]
    for member in room.members:
        room.deliver(member, messages)
    assert ledger.delivered_count == 120_000
    assert sum(member.received.itemsize * len(member.received) for member in room.members) == 4 * 120_000
    assert audit(ledger).ratio == 1


@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.3))
def test_whatever_is_done_to_the_messages_is_counted_just_so(
    seed: int, messages: int, drop: float, repeat: float, swap: float
) -> None:
    chance = random.Random(seed)
    ledger = Ledger()
    room = Room(ledger)
    sent = [room.publish(chance.choice(WORKERS)) for _ in range(messages)]
    expected: Counter[tuple[str, tuple[int, int]]] = Counter()
    for member in room.members:
        arrivals: list[int] = []
        for message in sent:
            pair = (ledger.origin_of[message], member.worker)
            if chance.random() < drop:
                expected["missing", pair] += 1
                continue
            arrivals.append(message)
            if chance.random() < repeat:
                arrivals.append(message)
                expected["duplicates", pair] += 1
        for place in range(0, len(arrivals) - 1, 2):
            if chance.random() < swap and arrivals[place] != arrivals[place + 1]:
                early, late = arrivals[place : place + 2]
                if early in arrivals[:place] or late in arrivals[place + 2 :]:
                    continue  # a repetition moves into the place of the first: not what this test counts
                arrivals[place : place + 2] = [late, early]
                expected["out_of_order", (ledger.origin_of[early], member.worker)] += 1
        room.deliver(member, arrivals)
    result = audit(ledger)
    for (origin, receiver), cell in result.pairs.items():
        pair = (ledger.workers.index(origin), ledger.workers.index(receiver))
        for what in ("missing", "duplicates", "out_of_order"):
            assert getattr(cell, what) == expected[what, pair], (what, origin, receiver)


def test_positions_are_ordered_by_their_numbers() -> None:
    assert sorted(["10-0", "9-10", "9-9", "9-0"], key=order) == ["9-0", "9-9", "9-10", "10-0"]
