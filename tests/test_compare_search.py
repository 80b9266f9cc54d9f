"""The search for the highest rate, and when a step of it says nothing."""

from pathlib import Path
from typing import cast

import pytest

from loadtests.bench import QUICK, Bench, Measurement, Running, ended_by_client
from loadtests.load_client import Answer, LoadClient
from loadtests.search import Verdict, highest_rate
from loadtests.stack import Cores, Server


@pytest.mark.parametrize("capacity", [1, 3, 17, 20, 1000, 5123])
def test_the_highest_rate_is_found_from_below_and_from_above(capacity: float) -> None:
    tried: list[float] = []

    def attempt(rate: float) -> Verdict:
        tried.append(rate)
        return Verdict.HELD if rate <= capacity else Verdict.FAILED

    found = highest_rate(attempt, 20, least=1, tolerance=0.1)
    assert found is not None
    assert capacity / 1.1 <= found <= capacity
    assert len(tried) <= 16


def test_a_server_that_holds_nothing_ends_the_search() -> None:
    tried: list[float] = []

    def attempt(rate: float) -> Verdict:
        tried.append(rate)
        return Verdict.FAILED

    assert highest_rate(attempt, 4, least=1, tolerance=0.1) is None
    assert tried == [4, 2, 1]


def test_nothing_is_claimed_above_what_the_client_could_measure() -> None:
    found = highest_rate(lambda rate: Verdict.INVALID if rate > 100 else Verdict.HELD, start=20, least=1, tolerance=0.1)
    assert found is not None
    assert found <= 100


def judged(
    *, client_cpu: float, redis_cpu: float = 0.0, missing: int = 0, p99_ms: float = 10.0, delivered_measured: int = 100
) -> Verdict:
    redis = 4_000_000  # no process has this pid: the kernel's limit is 4,194,304, and few are in use
    answer = Answer(
        {
            "rate": 10.0,
            "expected": 100 + missing,
            "delivered": 100,
            "sent": 20,
            "delivered_measured": delivered_measured,
            "duplicates": 0,
            "disordered": 0,
            "misdelivered": 0,
            "gave_up": False,
            "p99_ms": p99_ms,
            "seconds": 2.0,
            "client_cpu_seconds": 2.0 * client_cpu,
            "processes": [{"pid": redis, "cpu_seconds": 2.0 * redis_cpu}],
            "lost_connections": 0,
            "first_loss": "",
        }
    )

    class Beside:
        pids = (redis,)

    running = Running(cast(LoadClient, None), cast(Server, None), (cast(Server, Beside()),))
    bench = Bench(Cores(0, 1), Path(), Path(), QUICK, say=lambda text: None)
    return bench._judge(Measurement("anybody", "anything"), 100.0, answer, running)


def test_a_step_is_judged_by_loss_and_p99() -> None:
    assert judged(client_cpu=0.3) is Verdict.HELD
    assert judged(client_cpu=0.3, p99_ms=101) is Verdict.FAILED
    assert judged(client_cpu=0.3, missing=1) is Verdict.FAILED
    assert judged(client_cpu=0.3, delivered_measured=80) is Verdict.FAILED  # it all came, but later and later


def test_a_step_is_invalid_when_the_client_used_more_than_four_fifths_of_its_core() -> None:
    assert judged(client_cpu=0.79) is Verdict.HELD
    assert judged(client_cpu=0.81) is Verdict.INVALID
    assert judged(client_cpu=0.81, p99_ms=500) is Verdict.INVALID


def test_a_step_is_invalid_when_what_is_beside_the_client_filled_its_core() -> None:
    assert judged(client_cpu=0.5, redis_cpu=0.5, p99_ms=500) is Verdict.INVALID
    assert judged(client_cpu=0.5, redis_cpu=0.5) is Verdict.HELD


def test_the_client_ended_a_search_if_what_is_just_above_the_result_says_nothing_of_the_server() -> None:
    held, failed, invalid = Verdict.HELD, Verdict.FAILED, Verdict.INVALID

    def ended(rate: float, *steps: tuple[float, Verdict]) -> bool:
        return ended_by_client([{"rate": rate, "verdict": verdict} for rate, verdict in steps], rate)

    assert ended(10, (10, held), (20, invalid), (14, invalid), (12, invalid), (10, held))
    assert not ended(10, (10, held), (20, invalid), (14, failed), (12, failed), (10, held))
    assert not ended(9, (10, held), (20, invalid), (12, invalid), (10, failed), (9, held)), "it did not hold for long"
    assert not ended(10, (20, failed), (10, held), (14, failed), (12, failed), (10, held))
