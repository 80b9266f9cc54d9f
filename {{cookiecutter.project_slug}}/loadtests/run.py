"""One load test from the login to the exit code: phases, progress, report.

Everything runs in this process and its greenlets, so that ending it ends everything. Ctrl-C ends the sending; what was
measured so far is judged and reported.
"""

from __future__ import annotations

import os
import signal
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

from . import locust_stats
from .audit import Audit, audit
from .broadcast import CONNECTS_PER_SECOND, Broadcast, BroadcastUser
from .conclusion import conclude
from .files import raise_file_limit
from .part import Beat, Part
from .processes import ProcessWatch
from .settings import Settings
from .terminal import Terminal
from .verdict import FORBIDDEN, Generator, Outcome

SETTLE_SECONDS = 30
"""At most this long after the last send, messages on their way are waited for."""
QUIET_SECONDS = 3
"""Nothing came for so long: nothing more will."""
LATE_SECONDS = 1
"""How long after the end of the timeline members may still send what was due before."""
RETURN_SHARE = 0.2
"""How many of the users come back with the cookie at the end."""


class LoadTest:
    """The conductor: says when the members join, send and stop, and watches what it costs."""

    scenario_class: ClassVar[type[Broadcast]] = Broadcast

    def __init__(self, settings: Settings, login_token: str) -> None:
        self.settings = settings
        self.scenario = self.scenario_class(settings, login_token)
        self.interrupted = Event()
        self.timeline: list[Beat] = []
        self.watch = ProcessWatch(settings.url)
        self._cpu = 0.0
        self._cpu_mark = (time.process_time(), time.monotonic())
        self._terminal = Terminal()
        self._interrupted_at = 0.0

    def run(self) -> int:
        """Returns the exit code."""
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        settings = self.settings
        self._say(
            f"{settings.users:,} users in {settings.rooms:,} rooms at {settings.url}, {settings.rate:,.0f} messages/s "
            f"for {settings.duration_seconds:,.0f} s, seed {settings.seed}"
        )
        return conclude(
            self.measure(),
            settings,
            interrupted=self.interrupted.is_set(),
            started_at=started_at,
            processes=self.watch.figures(),
        )

    def measure(self) -> Part:
        """All phases, and what was found."""
        scenario = self.scenario
        with self._members():
            if self._join():
                self._send()
                found = self._settled()
                self._tick(scenario.begin_ns / 1e9)
                self._return(resume=found.complete)
            scenario.arrivals.close()
            final = audit(scenario.ledger)
        generator = Generator(
            cpu=self._cpu,
            lag_p99_ms=scenario.lag.percentile(0.99) or 0.0,
            skipped=scenario.skipped,
            overdue=self._overdue() if self.timeline and not self.interrupted.is_set() else 0,
        )
        return Part(
            audit=final,
            connections=scenario.connections,
            generator=generator,
            lag=scenario.lag,
            connect=scenario.connect_times,
            acknowledge=scenario.ack_times,
            timeline=self.timeline,
        )

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

    def _settled(self) -> Audit:
        """Wait for what is on its way, until the books are complete or nothing more comes. What they say then."""
        ledger = self.scenario.ledger
        deadline = time.monotonic() + SETTLE_SECONDS
        known, changed_at = (-1, -1), time.monotonic()
        while time.monotonic() < min(deadline, changed_at + QUIET_SECONDS):
            now = (ledger.acknowledged_count, ledger.delivered_count)
            if now != known:
                known, changed_at = now, time.monotonic()
                if ledger.settled() and (found := audit(ledger)).complete:
                    return found
            self._progress(f"waiting for what is on its way: {now[1]:,} delivered")
            gevent.sleep(0.05)
        return audit(ledger)

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
        self._note(
            Beat(
                at_seconds=round(now[1] - begin, 3),
                sent=interval.sent,
                acknowledged=interval.acknowledged,
                delivered=interval.delivered,
                same=interval.same,
                other=interval.other,
                generator_cpu=round((now[0] - used) / max(now[1] - at, 1e-9), 3),
                machine_cpu=psutil.cpu_percent() / 100,
            )
        )

    def _note(self, beat: Beat) -> None:
        self.timeline.append(beat)
        self._progress(str(beat))

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
        self._terminal.progress(text)

    def _say(self, text: str) -> None:
        self._terminal.say(text)
