"""A run that was made in several processes is judged as if it had been made in one."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from typing import Any

import pytest

from loadtests.audit import Audit, audit
from loadtests.histogram import Histogram
from loadtests.ledger import Ledger, Subscription
from loadtests.part import Beat, Part, merge, merge_audits, pack, unpack
from loadtests.verdict import Connections, Generator, Outcome, judge

WORKERS = ("chat-1", "chat-2", "chat-10")
msgpack: Any = importlib.import_module("msgpack")  # what Locust sends its messages in; it has no types
ROOMS = ("room/1", "room/2", "room/3", "room/4")


def played(rooms: tuple[str, ...], *, lost: str = "", twice: str = "", late: str = "") -> Ledger:
    """A member of each worker in each room sends ten messages. In the named room chat-2 does its member a wrong."""
    ledger = Ledger()
    for room in rooms:
        chance = random.Random(room)
        members = {worker: ledger.open(f"{room} {worker}", room, worker, "0-0") for worker in WORKERS}
        wronged = members["chat-2"]
        for sequence in range(1, 11):
            message = ledger.send(room, WORKERS[sequence % 3], intended_ns=0)
            ledger.acknowledge(message, f"7-{sequence}")
            held = sequence == 4 and room == late
            for member in members.values():
                if member is wronged and (held or (sequence == 5 and room == lost)):
                    continue
                deliver(ledger, member, message, sequence, chance)
                if member is wronged and sequence == 6 and room == twice:
                    deliver(ledger, member, message, sequence, chance)
                if member is wronged and sequence == 5 and room == late:
                    deliver(ledger, member, message - 1, sequence - 1, chance)
    return ledger


def deliver(ledger: Ledger, member: Subscription, message: int, sequence: int, chance: random.Random) -> None:
    ledger.deliver(member, message, f"7-{sequence}", now_ns=chance.randrange(1_000_000, 900_000_000))


def figures(judged: Audit) -> dict[tuple[str, str], tuple[int, int, int, int, dict[int, int]]]:
    return {
        key: (pair.expected, pair.delivered, pair.duplicates, pair.out_of_order, pair.latency.counts)
        for key, pair in judged.pairs.items()
    }


def part(judged: Audit, **more: object) -> Part:
    users = Counter({worker: 2 for worker in WORKERS})
    generator = Generator(cpu=0.5, lag_p99_ms=2)
    connections = Connections(users=6, joined=6, by_worker=users, returned=1, returned_to_same=1)
    made = Part(judged, connections, generator)
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("split", [1, 2, 3])
def test_the_parts_of_a_run_sum_up_to_the_run(split: int) -> None:
    wrongs = {"lost": "room/1", "twice": "room/3", "late": "room/4"}
    whole = audit(played(ROOMS, **wrongs))
    parts = merge_audits([audit(played(ROOMS[:split], **wrongs)), audit(played(ROOMS[split:], **wrongs))])
    assert list(parts.pairs) == list(whole.pairs), "chat-2 before chat-10"
    assert figures(parts) == figures(whole)
    assert (parts.sent, parts.acknowledged) == (whole.sent, whole.acknowledged) == (40, 40)
    assert (parts.missing, parts.duplicates, parts.out_of_order) == (1, 1, 1)
    for same_worker in (True, False):
        merged, single = (one.latency(same_worker=same_worker) for one in (parts, whole))
        assert [merged.percentile(one) for one in (0.5, 0.99, 1)] == [single.percentile(one) for one in (0.5, 0.99, 1)]


def test_what_one_part_lost_is_lost_and_named() -> None:
    found = merge([part(audit(played(ROOMS[:2]))), part(audit(played(ROOMS[2:], lost="room/3")))])
    verdict = judge(found.audit, found.connections, found.generator, workers=list(WORKERS), p99_ms=1000)
    assert verdict.outcome == Outcome.FAILED
    assert verdict.reasons == ["chat-10 → chat-2: 1 of 12 missing (room/3 7-5 for room/3 chat-2)"]


def test_parts_in_which_everything_holds_have_passed() -> None:
    found = merge([part(audit(played(ROOMS[:2]))), part(audit(played(ROOMS[2:])))])
    verdict = judge(found.audit, found.connections, found.generator, workers=list(WORKERS), p99_ms=1000)
    assert (verdict.outcome, verdict.reasons) == (Outcome.PASSED, [])
    assert (found.connections.users, found.connections.by_worker["chat-10"]) == (12, 4)


def test_a_worker_that_only_one_part_reached_is_in_the_whole() -> None:
    ledger = Ledger()
    ledger.open("alice", "room/9", "chat-3", "0-0")
    whole = merge_audits([audit(played(ROOMS[:1])), audit(ledger)])
    names = ["chat-1", "chat-2", "chat-3", "chat-10"]
    assert list(whole.pairs) == [(origin, receiver) for origin in names for receiver in names]


def test_the_process_that_was_worst_off_counts() -> None:
    judged = audit(played(ROOMS[:1]))
    calm = part(judged, generator=Generator(cpu=0.1, lag_p99_ms=1, skipped=1, overdue=2))
    busy = part(judged, generator=Generator(cpu=0.95, lag_p99_ms=80, skipped=3, died=["one is gone"]))
    assert merge([calm, busy]).generator == Generator(0.95, 80, skipped=4, overdue=2, died=["one is gone"])


def test_a_process_that_died_makes_the_run_invalid() -> None:
    found = part(audit(played(ROOMS)), generator=Generator(cpu=0.1, lag_p99_ms=1, died=["one is gone"]))
    verdict = judge(found.audit, found.connections, found.generator, workers=list(WORKERS), p99_ms=1000)
    assert (verdict.outcome, verdict.reasons) == (Outcome.INVALID, ["one is gone"])


def test_so_does_one_that_died_before_anything_was_sent() -> None:
    found = part(audit(Ledger()), generator=Generator(cpu=0.1, lag_p99_ms=1, died=["one is gone"]))
    verdict = judge(found.audit, found.connections, found.generator, workers=[], p99_ms=100)
    assert verdict.outcome is Outcome.INVALID
    found.generator.died.clear()
    verdict = judge(found.audit, found.connections, found.generator, workers=[], p99_ms=100)
    assert verdict.outcome is Outcome.FAILED


def test_of_no_part_nothing_is_known() -> None:
    found = merge([])
    assert (found.audit.pairs, found.connections.users, found.timeline) == ({}, 0, [])


def beat(at: float, sent: int, milliseconds: int, cpu: float) -> Beat:
    return Beat(at, sent, sent, 3 * sent, latency(milliseconds), Histogram(), cpu, 0.6)


def latency(milliseconds: int) -> Histogram:
    histogram = Histogram()
    histogram.record(milliseconds * 1_000_000)
    return histogram


def test_the_seconds_of_all_parts_are_one_timeline() -> None:
    judged = audit(played(ROOMS[:1]))
    long = part(judged, timeline=[beat(1.0, 5, 10, 0.2), beat(2.0, 6, 10, 0.2)])
    short = part(judged, timeline=[beat(1.01, 4, 90, 0.7)])
    first, second = merge([long, short]).timeline
    assert (first.at_seconds, first.sent, first.delivered, first.generator_cpu) == (1.01, 9, 27, 0.7)
    assert len(first.same) == 2
    assert (second.at_seconds, second.sent) == (2.0, 6)


def test_a_part_travels_as_a_message() -> None:
    sent = part(
        audit(played(ROOMS, lost="room/1")),
        lag=latency(1),
        connect=latency(2),
        acknowledge=latency(3),
        timeline=[beat(1.0, 5, 10, 0.2)],
        generator=Generator(cpu=0.1, lag_p99_ms=1, died=["one is gone"]),
    )
    sent.connections.lost["1011 at chat-2"] += 1
    sent.connections.rooms_missing["room/1"] = ["chat-2"]
    message = pack(sent)
    received = unpack(msgpack.loads(msgpack.dumps(message), strict_map_key=False))
    assert pack(received) == message
    assert figures(received.audit) == figures(sent.audit)
    assert received.audit.pairs["chat-10", "chat-2"].examples == sent.audit.pairs["chat-10", "chat-2"].examples
    assert received.connections == sent.connections
    assert isinstance(received.connections.refused, Counter)
    assert received.generator == sent.generator
