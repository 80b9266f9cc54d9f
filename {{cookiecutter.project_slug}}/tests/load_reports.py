"""Reports of load tests, made without running one."""

from collections import Counter
from typing import Any

from loadtests import report
from loadtests.audit import audit
from loadtests.histogram import Histogram
from loadtests.ledger import Ledger
from loadtests.report import Percentiles, ProcessFigures, ProcessSecond, ProcessSeries, Report, Second
from loadtests.saturation.knee import find_knee, judge_step
from loadtests.saturation.report import SCHEMA, SaturationReport, Step
from loadtests.verdict import Connections, Generator, judge

LIMIT_MS = 100


def made(workers: int = 2, lost: int = 1, room: str = "room/1", milliseconds: int = 3) -> Report:
    """Each worker's user sends one message to everybody; `lost` of the deliveries are missing."""
    ledger = Ledger()
    names = [f"chat-{number}" for number in range(1, workers + 1)]
    members = [ledger.open(f"user at {name}", room, name, "0-0") for name in names]
    for sequence, name in enumerate(names, 1):
        message = ledger.send(room, name, intended_ns=0)
        ledger.acknowledge(message, f"5-{sequence}")
        for member in members[lost if sequence == 1 else 0 :]:
            ledger.deliver(member, message, f"5-{sequence}", now_ns=milliseconds * 1_000_000)
    connections = Connections(users=workers, joined=workers, by_worker=Counter(names), returned=1, returned_to_same=1)
    generator = Generator(cpu=0.25, lag_p99_ms=1)
    interval = ledger.tick()
    result = audit(ledger)
    return report.build(
        verdict=judge(result, connections, generator, workers=names, p99_ms=100),
        audit=result,
        connections=connections,
        generator=generator,
        lag=Histogram(),
        connect=Histogram(),
        acknowledge=Histogram(),
        timeline=[
            Second(
                at_seconds=1.0,
                sent=interval.sent,
                acknowledged=interval.acknowledged,
                delivered=interval.delivered,
                same_worker=report.percentiles(interval.same),
                other_worker=report.percentiles(interval.other),
                generator_cpu=0.25,
                machine_cpu=0.5,
            )
        ],
        processes=processes(),
        started_at="2026-01-01T00:00:00+00:00",
        workers=names,
        settings={"users": workers, "p99_ms": 100.0},
        versions={"python": "3"},
        machine={"cpus": 2, "memory_bytes": 8_000_000_000},
    )


def processes() -> ProcessFigures:
    """Of one process, measured twice."""
    seconds = [
        ProcessSecond(at_seconds=at, cpu=0.5, memory_bytes=77_000_000, connections=41, messages=123.0)
        for at in (1.0, 2.0)
    ]
    return ProcessFigures(note="", series=[ProcessSeries(name="chat-1", seconds=seconds)])


def latency(p99: float) -> Percentiles:
    return Percentiles(count=10, p50=p99 / 4, p95=p99 / 2, p99=p99, p99_9=p99, max=p99)


def step(rate: float = 100, p99: float = 10, **fields: Any) -> Step:
    given: dict[str, Any] = {
        "rate": rate,
        "at_seconds": 0,
        "sent": 100,
        "acknowledged": 100,
        "sent_per_second": rate,
        "delivered_per_second": rate * 10,
        "expected": 1000,
        "delivered": 1000,
        "ratio": 1.0,
        "duplicates": 0,
        "out_of_order": 0,
        "otherwise_wrong": 0,
        "unrecovered": 0,
        "overdue": 0,
        "disturbances": 0,
        "latency": latency(p99),
        "same_worker": latency(p99),
        "other_worker": latency(p99),
        "generator_cpu": 0.2,
        "generator_lag_p99_ms": 1.0,
        "machine_cpu": 0.5,
        "outcome": "",
        "reason": "",
    }
    made: Any = {**given, **fields}
    made["outcome"], made["reason"] = judge_step(made, LIMIT_MS)
    judged: Step = made
    return judged


def saturation(*steps: Step, interrupted: bool = False) -> SaturationReport:
    return SaturationReport(
        schema=SCHEMA,
        knee=find_knee(steps, interrupted=interrupted),
        started_at="2026-01-01T00:00:00+00:00",
        settings={"p99_ms": 100.0},
        versions={"python": "3"},
        machine={"cpus": 2},
        by_worker={"chat-1": 10, "chat-2": 11},
        steps=list(steps),
        processes=processes(),
    )


def saturated() -> SaturationReport:
    """The third step is too slow."""
    return saturation(step(100), step(150), step(225, p99=300))
