"""One saturation run: everybody joins once, then step after step, each judged before the next begins."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import gevent
import psutil

from ..audit import Audit, audit
from ..circumstances import machine, versions
from ..histogram import Histogram
from ..publish import publish
from ..report import percentiles
from ..run import LATE_SECONDS, LoadTest
from . import page, table
from .knee import EXIT_CODES, StepOutcome, find_knee, judge_step
from .report import SCHEMA, SaturationReport, Step
from .settings import SaturationSettings
from .staircase import Staircase


def run(settings: SaturationSettings, login_token: str) -> int:
    """Returns the exit code."""
    written = Saturation(settings, login_token).climb()
    knee = written["knee"]
    text = f"{knee['outcome'].upper()}: {knee['sentence']}"
    publish(written, page.render(written, settings.report.name), text, settings.report)
    return EXIT_CODES[knee["outcome"]]


class Saturation(LoadTest):
    scenario_class = Staircase
    scenario: Staircase
    settings: SaturationSettings

    def climb(self) -> SaturationReport:
        settings = self.settings
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._say(
            f"{settings.users:,} users in {settings.rooms:,} rooms at {settings.url}, from {settings.first_rate:,.0f} "
            f"messages/s on, × {settings.factor:g} every {settings.warmup_seconds + settings.step_seconds:g} s, until "
            f"p99 is above {settings.p99_ms:,.0f} ms or the delivery breaks"
        )
        steps: list[Step] = []
        with self._members():
            if self._join():
                self._say(table.heading())
                steps += self._steps()
        return SaturationReport(
            schema=SCHEMA,
            knee=find_knee(steps, interrupted=self.interrupted.is_set()),
            started_at=started_at,
            settings={
                "users": settings.users,
                "rooms": settings.rooms,
                "first_rate": settings.first_rate,
                "factor": settings.factor,
                "step_seconds": settings.step_seconds,
                "warmup_seconds": settings.warmup_seconds,
                "p99_ms": settings.p99_ms,
                "seed": settings.seed,
                "url": settings.url,
            },
            versions=versions("locust", "gevent", "websockets"),
            machine=machine(),
            by_worker=dict(sorted(self.scenario.connections.by_worker.items())),
            steps=steps,
            processes=self.watch.figures(),
        )

    def _steps(self) -> Iterator[Step]:
        began = time.monotonic()
        watching = gevent.spawn(self._watch, began)
        before = audit(self.scenario.ledger)
        rate = self.settings.first_rate
        for _ in range(self.settings.max_steps):
            step, before = self._step(rate, began, before)
            if self.interrupted.is_set():
                break
            self._say(table.row(step))
            yield step
            if step["outcome"] != StepOutcome.HELD:
                break
            rate *= self.settings.factor
        watching.kill()

    def _step(self, rate: float, began: float, before: Audit) -> tuple[Step, Audit]:
        """Raise the rate, wait until all has arrived, judge."""
        settings, scenario, ledger = self.settings, self.scenario, self.scenario.ledger
        seconds = settings.warmup_seconds + settings.step_seconds
        disturbed = self._disturbances()
        scenario.lag = Histogram()
        stair = scenario.step(rate, seconds)
        begin = stair.begin_ns / 1e9
        self._sleep_until(begin + settings.warmup_seconds)
        ledger.tick()
        psutil.cpu_percent()  # begins its interval
        used, at = time.process_time(), time.monotonic()
        self._progress(f"{rate:,.0f} messages/s")
        self._sleep_until(begin + seconds)
        cpu = (time.process_time() - used) / max(time.monotonic() - at, 1e-9)
        machine_cpu = psutil.cpu_percent() / 100
        while len(ledger.position_of) - before.sent + scenario.skipped < stair.messages:
            if self.interrupted.is_set() or time.monotonic() > begin + seconds + LATE_SECONDS:
                break
            gevent.sleep(0.01)
        stair.ended = True
        after = self._settled()
        interval = ledger.tick()
        sent, delivered = after.sent - before.sent, after.delivered - before.delivered
        expected = after.expected - before.expected
        step = Step(
            rate=round(rate, 3),
            at_seconds=round(begin - began, 3),
            sent=sent,
            acknowledged=after.acknowledged - before.acknowledged,
            sent_per_second=round(sent / seconds, 1),
            delivered_per_second=round(delivered / seconds, 1),
            expected=expected,
            delivered=delivered,
            ratio=delivered / expected if expected else None,
            duplicates=after.duplicates - before.duplicates,
            out_of_order=after.out_of_order - before.out_of_order,
            otherwise_wrong=after.otherwise_wrong - before.otherwise_wrong,
            unrecovered=after.unrecovered - before.unrecovered,
            overdue=0 if self.interrupted.is_set() else max(0, stair.messages - sent - scenario.skipped),
            disturbances=self._disturbances() - disturbed,
            latency=percentiles(Histogram.merged((interval.same, interval.other))),
            same_worker=percentiles(interval.same),
            other_worker=percentiles(interval.other),
            generator_cpu=round(cpu, 3),
            generator_lag_p99_ms=scenario.lag.percentile(0.99) or 0.0,
            machine_cpu=machine_cpu,
            outcome="",
            reason="",
        )
        step["outcome"], step["reason"] = judge_step(step, settings.p99_ms)
        return step, after

    def _disturbances(self) -> int:
        connections = self.scenario.connections
        return sum(counts.total() for counts in (connections.refused, connections.lost, connections.errors))
