"""The master: says when the generators join, begin and end, and puts together what they found.

Nobody sends before everybody is in: the members of all generators. The generators join one after the other, because
side by side the turns of a load balancer could give each of them a worker of its own, and rooms must reach over all.
"""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import gevent
from gevent.queue import Empty, Queue
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner

from ..broadcast import CONNECTS_PER_SECOND, JOIN_SECONDS, BroadcastUser
from ..conclusion import conclude
from ..part import Beat, Part, merge, merge_beats, unpack, unpack_beat
from ..processes import ProcessWatch
from ..run import LATE_SECONDS, SETTLE_SECONDS
from ..settings import Settings
from ..terminal import Terminal
from ..verdict import Outcome
from .share import PORT, divide
from .spawning import Spawned

START_SECONDS = 60
"""Within this time the generators must be there."""
LOST_SECONDS = 30
"""Without a sign of life. While it judges a large ledger, a generator gives none for some seconds."""
END_SECONDS = SETTLE_SECONDS + 60
"""How long after its end a generator may take to say what it found: it waits for what is on its way, and counts."""


def here(settings: Settings) -> int:
    """With generators that are processes of this machine. Returns the exit code."""
    runner = _runner("127.0.0.1", 0)
    spawned = Spawned(len(divide(settings, "")), f"127.0.0.1:{runner.server.port}")
    return Master(settings, runner, spawned).run()


def elsewhere(settings: Settings) -> int:
    """With generators that somebody else starts, on this machine or on others. Returns the exit code."""
    return Master(settings, _runner("*", PORT), None).run()


def _runner(host: str, port: int) -> MasterRunner:
    return Environment(user_classes=[BroadcastUser], events=events).create_master_runner(host, port)


class Master:
    def __init__(self, settings: Settings, runner: MasterRunner, spawned: Spawned | None) -> None:
        self.settings = settings
        self.shares = divide(settings, secrets.token_hex(3))
        self.interrupted = False
        self._interrupted_at = 0.0
        self._runner = runner
        self._spawned = spawned
        self._names: dict[str, str] = {}  # by Locust's id of a generator: how it is called here
        self._pending: set[str] = set()  # those that have yet to say what they found
        self._joined: set[str] = set()
        self._parts: dict[str, Part] = {}
        self._beats: dict[str, list[Beat]] = defaultdict(list)
        self._shown = 0
        self._died: list[str] = []
        self._messages: Queue[tuple[str, str, Any]] = Queue()
        self._terminal = Terminal()
        self._watch = ProcessWatch(settings.url)
        if spawned:
            self._watch.generators = spawned.by_name()
        for kind in ("joined", "progress", "beat", "part"):
            runner.register_message(kind, self._note)

    def run(self) -> int:
        """Returns the exit code."""
        settings, started_at = self.settings, datetime.now(UTC).isoformat(timespec="seconds")
        handlers = [gevent.signal_handler(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)]
        self._terminal.say(
            f"{settings.users:,} users in {settings.rooms:,} rooms at {settings.url}, {settings.rate:,.0f} messages/s "
            f"for {settings.duration_seconds:,.0f} s, seed {settings.seed}, from {len(self.shares)} processes"
        )
        try:
            if self._wait_for_generators() and self._join():
                self._send()
            self._end()
        finally:
            self._runner.quit()
            if self._spawned:
                self._spawned.end()
            for handler in handlers:
                handler.cancel()
        return conclude(
            self._found(),
            settings,
            interrupted=self.interrupted,
            started_at=started_at,
            processes=self._watch.figures(),
        )

    # The phases

    def _wait_for_generators(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while len(self._runner.clients) < len(self.shares) and not self._over():
            if time.monotonic() > deadline:
                self._died.append(
                    f"{len(self._runner.clients)} of {len(self.shares)} processes of the load generator were there "
                    f"within {START_SECONDS} s"
                )
            self._handle_next()
        for client, share in zip(self._runner.clients, self.shares, strict=False):
            self._names[client] = f"process {share.number}"
        return not self._over()

    def _join(self) -> bool:
        for client, share in zip(self._names, self.shares, strict=True):
            self._pending.add(client)
            self._runner.send_message("join", share.to_message(), client)
            deadline = time.monotonic() + JOIN_SECONDS + share.users / CONNECTS_PER_SECOND + END_SECONDS
            while client not in self._joined and not self._over():
                self._handle_next(deadline)
            if self._over():
                return False
        self._terminal.say(f"all {self.settings.users:,} users are in their rooms")
        return True

    def _send(self) -> None:
        for client in self._names:
            self._runner.send_message("begin", None, client)
        begin, duration = time.monotonic(), self.settings.duration_seconds
        watching = gevent.spawn(self._sample, begin)
        while self._pending and not self._over():
            self._handle_next(begin + duration + LATE_SECONDS + END_SECONDS)
        watching.kill()

    def _sample(self, begin: float) -> None:
        while time.monotonic() < begin + self.settings.duration_seconds:
            self._watch.sample(time.monotonic() - begin)
            gevent.sleep(1)

    def _end(self) -> None:
        """Have those that are still at it say what they found so far."""
        for client in self._pending:
            self._runner.send_message("end", None, client)
        deadline = time.monotonic() + END_SECONDS
        while self._pending and len(self._pending) > (len(self._spawned.deaths()) if self._spawned else 0):
            self._handle_next(deadline)

    def _over(self) -> bool:
        """Whether there is nothing to wait for but the end."""
        if self._spawned and not self._died:
            self._died += self._spawned.deaths()
        left_early = self._parts and len(self._joined) < len(self.shares)
        return bool(self.interrupted or self._died or left_early)

    def _found(self) -> Part:
        whole = merge(list(self._parts.values()))
        whole.connections.users = self.settings.users
        for client, share in zip(self._names, self.shares, strict=False):
            if client in self._joined and client not in self._parts:
                whole.connections.joined += share.users
        whole.generator.died += self._died
        return whole

    # What the generators say

    def _note(self, msg: Any, **_: Any) -> None:
        self._messages.put((msg.node_id, msg.type, msg.data))

    def _handle_next(self, deadline: float | None = None) -> None:
        """Wait for a message, but not for long."""
        try:
            client, kind, data = self._messages.get(timeout=0.2)
        except Empty:
            self._look_for_the_lost(deadline)
            return
        if kind == "joined":
            self._joined.add(client)
        elif kind == "progress":
            self._terminal.progress(f"{self._names.get(client, '')}: {data['text']}")
        elif kind == "beat":
            self._beats[client].append(unpack_beat(data))
            self._show_beats()
        elif client in self._pending:
            self._parts[client] = unpack(data)
            self._pending.remove(client)

    def _look_for_the_lost(self, deadline: float | None) -> None:
        late = deadline is not None and time.monotonic() > deadline
        for client in list(self._pending):
            node = self._runner.clients.get(client)
            if late or node is None or node.heartbeat < -LOST_SECONDS:
                self._pending.remove(client)
                self._died.append(f"{self._names[client]} of the load generator did not say what it found")

    def _show_beats(self) -> None:
        """The sum of all, once all have told an interval."""
        while len(self._beats) == len(self.shares) and all(len(beats) > self._shown for beats in self._beats.values()):
            self._terminal.progress(str(merge_beats([beats[self._shown] for beats in self._beats.values()])))
            self._shown += 1

    def _interrupt(self) -> None:
        now = time.monotonic()
        if not self.interrupted:
            self.interrupted, self._interrupted_at = True, now
        elif now > self._interrupted_at + 1:  # asked again, and not by both the terminal and make
            if self._spawned:
                self._spawned.kill()
            os._exit(Outcome.INTERRUPTED.exit_code)
