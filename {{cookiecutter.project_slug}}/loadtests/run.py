"""One load test from the login to the exit code: phases, progress, report.

Everything runs in this process and its greenlets, so that ending it ends everything. Ctrl-C ends the sending; what was
measured so far is judged and reported.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import ClassVar

import gevent
import psutil
from gevent.event import Event
from gevent.pool import Pool
from locust import events
from locust.env import Environment

from . import locust_stats, page, report, table
from .audit import Audit, audit
from .broadcast import CONNECTS_PER_SECOND, Broadcast, BroadcastUser
from .circumstances import machine, versions
from .files import raise_file_limit
from .histogram import Histogram
from .login import LoginFailed, NobodyAnswers, sign_up_and_in
from .pages import document
from .processes import ProcessWatch
from .report import Report, Second
from .settings import Settings
from .verdict import FORBIDDEN, Generator, Outcome, Verdict, judge

SETTLE_SECONDS = 30
"""At most this long after the last send, messages on their way are waited for."""
QUIET_SECONDS = 3
"""Nothing came for so long: nothing more will."""
LATE_SECONDS = 1
"""How long after the end of the timeline members may still send what was due before."""
RETURN_SHARE = 0.2
"""How many of the users come back with the cookie at the end."""
COULD_NOT_RUN = 2


def run(settings: Settings) -> int:
    """Returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        login_token = sign_up_and_in(settings.http_url)
    except NobodyAnswers as error:
        print(f"Nothing answers at {error}. `make up` starts the stack.", file=sys.stderr)
        return COULD_NOT_RUN
    except LoginFailed as error:
        print(f"FAILED: sign-up and sign-in do not work: {error}", file=sys.stderr)
        return 1
    result = LoadTest(settings, login_token).run()
    report.write_json(result[0], settings.report)
    picture = settings.report.with_suffix(".html")
    document.write(page.render(result[0], settings.report.name), picture)
    print(f"\n{table.render(result[0])}\n\nReport: {os.path.relpath(picture)}", flush=True)
    return result[1].outcome.exit_code


class LoadTest:
    """The conductor: says when the members join, send and stop, and watches what it costs."""

    scenario_class: ClassVar[type[Broadcast]] = Broadcast

    def __init__(self, settings: Settings, login_token: str) -> None:
        self.settings = settings
        self.scenario = self.scenario_class(settings, login_token)
        self.interrupted = Event()
        self.timeline: list[Second] = []
        self.watch = ProcessWatch(settings.url)
        self._cpu = 0.0
        self._cpu_mark = (time.process_time(), time.monotonic())
        self._printed_at = 0.0
        self._interrupted_at = 0.0

    def run(self) -> tuple[Report, Verdict]:
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        settings, scenario = self.settings, self.scenario
        self._say(
            f"{settings.users:,} users in {settings.rooms:,} rooms at {settings.url}, {settings.rate:,.0f} messages/s "
            f"for {settings.duration_seconds:,.0f} s, seed {settings.seed}"
        )
        with self._members():
            if self._join():
                self._send()
                self._return(resume=self._settle())
            scenario.arrivals.close()
            final = audit(scenario.ledger)
        return self._judge(final, started_at)

    @contextmanager
    def _members(self) -> Iterator[None]:
        """They connect, and are gone afterwards. Ctrl-C sets `interrupted` meanwhile."""
        raise_file_limit()
        locust_stats.use_fine_buckets()
        BroadcastUser.scenario, BroadcastUser.url = self.scenario, self.settings.url
        environment = Environment(user_classes=[BroadcastUser], events=events)
        runner = environment.create_local_runner()
        handlers = [gevent.signal_handler(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            runner.start(self.settings.users, spawn_rate=CONNECTS_PER_SECOND)
            yield
        finally:
            self.scenario.stopped.set()
            runner.quit()
            for handler in handlers:
                handler.cancel()

    # The phases

    def _join(self) -> bool:
        """Bring everybody in. Returns whether the sending can begin."""
        scenario, everybody = self.scenario, self.settings.users
        while not self.interrupted.is_set() and time.monotonic() < scenario.join_deadline:
            connected = sum(member.socket is not None for member in scenario.members)
            if connected == everybody and not scenario.rooms_assigned.is_set():
                scenario.assign_rooms()
            if scenario.connections.joined == everybody:
                spread = ", ".join(f"{worker} {n:,}" for worker, n in sorted(scenario.connections.by_worker.items()))
                self._say(f"all {everybody:,} users are in their rooms ({spread})")
                return True
            if set(scenario.connections.refused) & FORBIDDEN:
                return False
            refused = next(reversed(scenario.connections.refused), None)
            self._progress(
                f"{connected:,} of {everybody:,} users are connected" + (f"; refused: {refused}" if refused else "")
            )
            self.interrupted.wait(timeout=0.1)
        return False

    def _send(self) -> None:
        """Let the members send until the timeline ends."""
        self.scenario.begin()
        begin = self.scenario.begin_ns / 1e9
        end = begin + self.settings.duration_seconds
        self._sleep_until(begin)
        self._cpu_mark = (time.process_time(), time.monotonic())
        psutil.cpu_percent()  # begins its interval
        watching = gevent.spawn(self._watch, begin)
        first, second = self._cpu_mark, begin
        while not self.interrupted.is_set() and time.monotonic() < end:
            second = min(second + 1, end)
            self._sleep_until(second)
            self._tick(begin)
        while self._overdue() and not self.interrupted.is_set() and time.monotonic() < end + LATE_SECONDS:
            self.interrupted.wait(timeout=0.01)
        self.scenario.stopped.set()
        self._cpu = (time.process_time() - first[0]) / max(time.monotonic() - first[1], 1e-9)
        watching.kill()

    def _overdue(self) -> int:
        """Messages that should have been sent by the end of the timeline."""
        return self.settings.message_count - len(self.scenario.ledger.position_of) - self.scenario.skipped

    def _settle(self) -> bool:
        """Wait for what is still on its way: until the ledger is complete, which is returned, or nothing more comes."""
        ledger = self.scenario.ledger
        deadline = time.monotonic() + SETTLE_SECONDS
        known, changed_at, complete = (-1, -1), time.monotonic(), False
        while not complete and time.monotonic() < min(deadline, changed_at + QUIET_SECONDS):
            now = (ledger.acknowledged_count, ledger.delivered_count)
            if now != known:
                known, changed_at = now, time.monotonic()
                complete = ledger.settled() and audit(ledger).missing == 0
            self._progress(f"waiting for what is on its way: {now[1]:,} delivered")
            gevent.sleep(0.1)
        self._tick(self.scenario.begin_ns / 1e9)
        return complete

    def _return(self, *, resume: bool) -> None:
        """A share of the users drops its connection and comes back with the cookie."""
        if self.interrupted.is_set():
            return
        members = [member for member in self.scenario.members if member.subscription is not None]
        returning = members[:: round(1 / RETURN_SHARE)]
        self._progress(f"{len(returning):,} users come back with the cookie")
        connections = self.scenario.connections
        for same_worker in Pool(20).imap_unordered(partial(BroadcastUser.come_back, resume=resume), returning):
            connections.returned += 1
            connections.returned_to_same += same_worker

    def _judge(self, final: Audit, started_at: str) -> tuple[Report, Verdict]:
        scenario, settings = self.scenario, self.settings
        lag_p99_ms = scenario.lag.percentile(0.99) or 0.0
        generator = Generator(
            cpu=self._cpu,
            lag_p99_ms=lag_p99_ms,
            skipped=scenario.skipped,
            overdue=self._overdue() if self.timeline and not self.interrupted.is_set() else 0,
        )
        verdict = judge(
            final,
            scenario.connections,
            generator,
            workers=settings.workers,
            p99_ms=settings.p99_ms,
            interrupted=self.interrupted.is_set(),
        )
        return (
            report.build(
                verdict=verdict,
                audit=final,
                connections=scenario.connections,
                generator=generator,
                lag=scenario.lag,
                connect=scenario.connect_times,
                acknowledge=scenario.ack_times,
                timeline=self.timeline,
                processes=self.watch.figures(),
                started_at=started_at,
                workers=settings.workers,
                settings={
                    "users": settings.users,
                    "rooms": settings.rooms,
                    "duration_seconds": settings.duration_seconds,
                    "rate": settings.rate,
                    "p99_ms": settings.p99_ms,
                    "seed": settings.seed,
                    "url": settings.url,
                },
                versions=versions("locust", "gevent", "websockets"),
                machine=machine(),
            ),
            verdict,
        )

    # What it watches

    def _watch(self, begin: float) -> None:
        """Second by second, in a greenlet of its own: a process that does not answer must not hold up the others."""
        while True:
            self.watch.sample(time.monotonic() - begin)
            gevent.sleep(1)

    def _tick(self, begin: float) -> None:
        interval = self.scenario.ledger.tick()
        (used, at), now = self._cpu_mark, (time.process_time(), time.monotonic())
        self._cpu_mark = now
        second = Second(
            at_seconds=round(now[1] - begin, 3),
            sent=interval.sent,
            acknowledged=interval.acknowledged,
            delivered=interval.delivered,
            same_worker=report.percentiles(interval.same),
            other_worker=report.percentiles(interval.other),
            generator_cpu=round((now[0] - used) / max(now[1] - at, 1e-9), 3),
            machine_cpu=psutil.cpu_percent() / 100,
        )
        self.timeline.append(second)
        p99 = Histogram.merged((interval.same, interval.other)).percentile(0.99)
        self._progress(
            f"{second['at_seconds']:4.0f} s: {second['sent']:,} sent, {second['delivered']:,} delivered, p99 "
            + ("-" if p99 is None else f"{p99:,.0f} ms")
            + f"; generator {second['generator_cpu']:.0%} of a core, machine {second['machine_cpu']:.0%}"
        )

    def _interrupt(self) -> None:
        now = time.monotonic()
        if not self.interrupted.is_set():
            self.interrupted.set()
            self._interrupted_at = now
        elif now > self._interrupted_at + 1:  # asked again, and not by both the terminal and make
            os._exit(Outcome.INTERRUPTED.exit_code)

    def _sleep_until(self, monotonic: float) -> None:
        self.interrupted.wait(timeout=max(0, monotonic - time.monotonic()))

    def _progress(self, text: str) -> None:
        """A line that the next one replaces; where that cannot be, one every five seconds."""
        if sys.stdout.isatty():
            print(f"\r\x1b[2K{text}", end="", flush=True)
        elif time.monotonic() > self._printed_at + 5:
            self._printed_at = time.monotonic()
            print(text, flush=True)

    def _say(self, text: str) -> None:
        print(f"\r\x1b[2K{text}" if sys.stdout.isatty() else text, flush=True)
