"""Passed only when everything holds; and when it does not, the reasons say what."""

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from loadtests.audit import Audit, Missing, Pair
from loadtests.histogram import Histogram
from loadtests.verdict import Connections, Generator, Outcome, Verdict, judge

WORKERS = ["chat-1", "chat-2"]
IDLE = Generator(cpu=0.2, lag_p99_ms=1)


def latency(milliseconds: int) -> Histogram:
    histogram = Histogram()
    histogram.record(milliseconds * 1_000_000)
    return histogram


def good_audit(workers: list[str] = WORKERS) -> Audit:
    pairs = {
        (origin, receiver): Pair(origin, receiver, expected=100, delivered=100, latency=latency(10))
        for origin in workers
        for receiver in workers
    }
    return Audit(pairs, sent=40, acknowledged=40, unrecovered=0, foreign=0, position_conflicts=0)


def good_connections() -> Connections:
    users = Counter({"chat-1": 5, "chat-2": 5})
    return Connections(users=10, joined=10, by_worker=users, returned=2, returned_to_same=2)


def verdict(
    audit: Audit | None = None, connections: Connections | None = None, generator: Generator = IDLE, **more: Any
) -> Verdict:
    return judge(
        audit or good_audit(), connections or good_connections(), generator, workers=WORKERS, p99_ms=100, **more
    )


def test_a_run_in_which_everything_holds_has_passed() -> None:
    assert verdict() == Verdict(Outcome.PASSED, [], [])


def lose_one(audit: Audit) -> None:
    pair = audit.pairs["chat-1", "chat-2"]
    pair.delivered = 99
    pair.examples.append(Missing(7, "17-0", "room/1", "load-00003"))


def lose_all(audit: Audit) -> None:
    audit.pairs["chat-2", "chat-1"].delivered = 0
    audit.split_topics.append("room/1")


def send_twice(audit: Audit) -> None:
    audit.pairs["chat-1", "chat-1"].duplicates = 3


def disorder(audit: Audit) -> None:
    audit.pairs["chat-2", "chat-2"].out_of_order = 4


def slow_down(audit: Audit) -> None:
    audit.pairs["chat-1", "chat-2"].latency = latency(101)


def send_nothing(audit: Audit) -> None:
    audit.pairs["chat-2", "chat-1"].expected = audit.pairs["chat-2", "chat-1"].delivered = 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lose_one, "chat-1 → chat-2: 1 of 100 missing (room/1 17-0 for load-00003)"),
        (lose_all, "chat-2 → chat-1: 100 of 100 missing: nothing arrives there"),
        (lose_all, "the workers do not share a log"),
        (send_twice, "chat-1 → chat-1: 3 delivered more than once"),
        (disorder, "chat-2 → chat-2: 4 after a later message"),
        (slow_down, "p99 to another worker is 101"),
        (send_nothing, "no message went chat-2 → chat-1"),
    ],
)
def test_a_fault_of_the_delivery_fails_the_run_and_is_named(fault: Callable[[Audit], None], reason: str) -> None:
    audit = good_audit()
    fault(audit)
    result = verdict(audit)
    assert result.outcome is Outcome.FAILED
    assert reason in "\n".join(result.reasons)


@pytest.mark.parametrize(
    "field", ["stale", "misrouted", "foreign", "position_conflicts", "shared_positions", "unrecovered"]
)
def test_any_other_irregularity_fails_the_run(field: str) -> None:
    audit = good_audit()
    setattr(audit, field, 1)
    result = verdict(audit)
    assert result.outcome is Outcome.FAILED
    assert len(result.reasons) == 1


def test_a_message_without_an_ack_fails_the_run() -> None:
    assert verdict(dataclasses.replace(good_audit(), acknowledged=39)).reasons == [
        "messages never acknowledged, of 40: 1"
    ]


def test_a_run_in_which_nothing_was_expected_has_not_passed() -> None:
    audit = good_audit()
    for pair in audit.pairs.values():
        pair.expected = pair.delivered = 0
    assert verdict(audit).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"joined": 9}, "9 of 10 users could join"),
        ({"by_worker": Counter({"chat-1": 10})}, "nobody was connected to chat-2"),
        ({"by_worker": Counter({"chat-1": 4, "chat-2": 4, "chat-9": 2})}, "chat-9 took part, but is not one of chat-1"),
        ({"refused": Counter({"HTTP 502": 3})}, "handshakes that failed: 3, namely HTTP 502 (3)"),
        ({"refused": Counter({"HTTP 401": 3})}, "is CHAT_TOKEN_SECRET the one"),
        ({"lost": Counter({"1013 overloaded at chat-1": 1})}, "1013 overloaded at chat-1 (1)"),
        ({"errors": Counter({"rate_limited": 2})}, "rate_limited (2)"),
        ({"returned_to_same": 1}, "1 of 2 users that came back"),
    ],
)
def test_a_fault_of_the_connections_fails_the_run_and_is_named(change: dict[str, Any], reason: str) -> None:
    result = verdict(connections=dataclasses.replace(good_connections(), **change))
    assert result.outcome is Outcome.FAILED
    assert reason in "\n".join(result.reasons)


@pytest.mark.parametrize("generator", [Generator(cpu=0.91, lag_p99_ms=1), Generator(cpu=0.2, lag_p99_ms=26)])
def test_a_generator_that_was_the_bottleneck_makes_the_run_invalid_not_passed(generator: Generator) -> None:
    result = verdict(generator=generator)
    assert result.outcome is Outcome.INVALID
    assert result.reasons[0].startswith("the load generator")


def test_slowness_measured_by_an_overloaded_generator_is_no_failure_of_the_service() -> None:
    audit = good_audit()
    slow_down(audit)
    assert verdict(audit, generator=Generator(cpu=0.99, lag_p99_ms=1)).outcome is Outcome.INVALID


def test_a_lost_message_is_a_failure_whatever_the_generator_did() -> None:
    audit = good_audit()
    lose_one(audit)
    assert verdict(audit, generator=Generator(cpu=0.99, lag_p99_ms=500)).outcome is Outcome.FAILED


def test_messages_that_were_due_without_a_connection_are_named() -> None:
    result = verdict(generator=dataclasses.replace(IDLE, skipped=2))
    assert (result.outcome, len(result.reasons)) == (Outcome.FAILED, 1)


def test_an_interrupted_run_has_not_passed() -> None:
    assert verdict(interrupted=True).outcome is Outcome.INTERRUPTED


def test_a_room_that_misses_a_worker_is_noted() -> None:
    result = verdict(connections=dataclasses.replace(good_connections(), rooms_missing={"room/3": ["chat-2"]}))
    assert result.outcome is Outcome.PASSED
    assert "room/3: nobody on chat-2" in result.notes[0]


def test_every_outcome_has_an_exit_code_of_its_own_and_only_passed_is_zero() -> None:
    codes = {outcome: outcome.exit_code for outcome in Outcome}
    assert codes == {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.INVALID: 3, Outcome.INTERRUPTED: 130}
