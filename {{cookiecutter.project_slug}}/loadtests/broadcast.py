"""The broadcast scenario: users in rooms that reach over all workers, sending on a fixed timeline.

`Broadcast` is the plan and the books of a run, `BroadcastUser` one member. Nobody sends before everybody is
subscribed; every message is due at a time that was fixed before, whatever the service does meanwhile.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

import gevent
import orjson
from gevent.event import Event
from locust import task
from locust.env import Environment

from distributed_websocket.auth import issue_token
from distributed_websocket.codes import may_reconnect

from . import locust_stats
from .arrivals import Arrivals
from .histogram import Histogram
from .ledger import Ledger, Subscription
from .settings import Settings
from .user import WebSocketUser
from .verdict import Connections
from .websocket import HandshakeFailed, WebSocketClosed

PAYLOAD = "x" * 64
CONNECTS_PER_SECOND = 100
TOKEN_SECONDS = 25 * 3600
"""Longer than anybody may say that a load test shall last."""
JOIN_SECONDS = 30
"""On top of what the connects take at their rate."""
BACKOFF_SECONDS = (0.2, 5.0)
"""First and largest upper bound of the random wait before a reconnect."""
MAX_ERROR_TEXTS = 20
"""Different error texts that are kept; those after them are counted by their code."""


class Broadcast:
    """The plan of a run and everything that is counted in it."""

    def __init__(self, settings: Settings, login_token: str) -> None:
        self.settings = settings
        self.ledger = Ledger()
        self.arrivals = Arrivals(self.ledger)
        self.connections = Connections(settings.users)
        self.connect_times = Histogram()
        self.ack_times = Histogram()
        self.lag = Histogram()
        """How late messages were sent, of which the service knows nothing."""
        self.skipped = 0
        self.members: list[BroadcastUser] = []
        self.topics: dict[int, str] = {}  # by member
        self.rooms_assigned = Event()
        self.sending = Event()
        self.stopped = Event()
        self.begin_ns = 0
        self.join_deadline = time.monotonic() + JOIN_SECONDS + settings.users / CONNECTS_PER_SECOND
        self.random = random.Random(settings.seed)
        self._login_token = login_token
        self._run = secrets.token_hex(3)
        self._slots = list(range(settings.users))
        self.random.shuffle(self._slots)

    def enlist(self, member: BroadcastUser) -> int:
        """The number of a new member."""
        self.members.append(member)
        return len(self.members) - 1

    def name_of(self, number: int) -> str:
        return f"load-{number:05d}"

    def token_of(self, number: int) -> str:
        """The first member comes with the token that the gateway gave, the others with tokens as it would give them."""
        if number == 0:
            return self._login_token
        secret = self.settings.token_secret.get_secret_value()
        return issue_token(self.name_of(number), secret=secret, lifetime_seconds=TOKEN_SECONDS)

    def assign_rooms(self) -> None:
        """Deal the members over the rooms, worker by worker: each room gets its share of each worker's members.

        By their number alone they could not be dealt: with as many workers as divide the number of rooms, a load
        balancer that goes round would put each room on one worker.
        """
        connected = [member for member in self.members if member.socket is not None]
        connected.sort(key=lambda member: (member.worker, self.slot(member.number)))
        reached: dict[str, set[str]] = {}
        for place, member in enumerate(connected):
            room = f"room/load-{self._run}-{place % self.settings.rooms + 1}"
            self.topics[member.number] = room
            reached.setdefault(room, set()).add(member.worker)
            self.connections.by_worker[member.worker] += 1
        for room, workers in reached.items():
            if lacking := [worker for worker in self.settings.workers if worker not in workers]:
                self.connections.rooms_missing[room] = lacking
        self.rooms_assigned.set()

    def begin(self) -> None:
        """Start the clock of the timeline."""
        self.begin_ns = time.monotonic_ns() + 200_000_000
        self.sending.set()

    def slot(self, number: int) -> int:
        """Whose turn a member's is, in each round."""
        return self._slots[number]

    def due_times(self, number: int) -> Iterator[int]:
        """When a member sends, on the monotonic clock: message k of all is due at begin + k / rate."""
        period_ns = 1e9 / self.settings.rate
        for k in range(self.slot(number), self.settings.message_count, self.settings.users):
            yield self.begin_ns + round(k * period_ns)


class BroadcastUser(WebSocketUser):
    """A member of one room: it sends when its time has come and notes what it receives."""

    scenario: ClassVar[Broadcast]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.number = self.scenario.enlist(self)
        self.token = self.scenario.token_of(self.number)
        self.subscription: Subscription | None = None
        self.subscribed = Event()
        self._previous: Subscription | None = None
        self._epoch = ""
        self.resumable = True
        """Whether the service has positions: without a log it promises nothing to who was away."""

    def on_start(self) -> None:
        """Connect, take a room, subscribe; then wait for the others."""
        self._connect_until_it_works()
        self.read()
        self.scenario.rooms_assigned.wait()
        self.subscribe()
        self.subscribed.wait()
        self.scenario.connections.joined += 1
        self.scenario.sending.wait()

    @task
    def send_on_time(self) -> None:
        for due_ns in self.scenario.due_times(self.number):
            gevent.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            if self.scenario.stopped.is_set():
                break
            self.send(due_ns)
        Event().wait()  # and listen, until the run is over

    def send(self, due_ns: int) -> None:
        scenario, topic = self.scenario, self.scenario.topics[self.number]
        scenario.lag.record(time.monotonic_ns() - due_ns)
        if self.socket is None:
            scenario.skipped += 1
            return
        message = scenario.ledger.send(topic, self.worker, due_ns)
        data = {"n": message, "text": PAYLOAD}
        with suppress(WebSocketClosed):  # its reader finds out too; the message stays without an ack
            self.socket.send(orjson.dumps({"type": "send", "topic": topic, "ref": message, "data": data}))

    def subscribe(self) -> None:
        """Ask for the room, from where the previous connection ended. `subscribed` is set when the answer came."""
        request: dict[str, Any] = {"type": "subscribe", "topic": self.scenario.topics[self.number]}
        if self._previous is not None and self.resumable:
            request["since"] = {"position": self._previous.end, "epoch": self._epoch}
        self.subscribed.clear()
        if self.socket is not None:
            with suppress(WebSocketClosed):  # its reader finds out too
                self.socket.send(orjson.dumps(request))

    def come_back(self, *, resume: bool) -> bool:
        """Drop the connection and return with the cookie. Returns whether the same worker answered.

        With `resume` also to the room, from where it left. Without, the ledger goes on holding what the dropped
        connection lacks: a resumed one would be given it from the log, and the loss would not show.
        """
        worker = self.worker
        self.disconnect()
        if resume:
            self._end_subscription()
        if not self._connected():
            return False
        if not resume:
            return self.worker == worker
        self.read()
        self.subscribe()
        return self.subscribed.wait(timeout=10) and self.worker == worker

    def on_message(self, message: dict[str, Any], length: int, now_ns: int) -> None:
        kind = message["type"]
        ledger = self.scenario.ledger
        if kind == "send":
            subscription, number = self.subscription, message["data"]["n"]
            if subscription is None:
                raise ValueError("a delivery before `subscribed`")
            position = message["id"] if self.resumable else self.scenario.arrivals.deliver(number)
            latency_ns = ledger.deliver(subscription, number, position, now_ns)
            if latency_ns is not None:
                name = "deliver:other" if ledger.crosses(subscription, number) else "deliver:same"
                locust_stats.record(name, latency_ns / 1e6, length)
        elif kind == "ack":
            number = message["ref"]
            arrivals = self.scenario.arrivals
            if ledger.acknowledge(number, message["id"]) if self.resumable else arrivals.acknowledge(number):
                elapsed_ns = now_ns - ledger.intended_ns[number]
                self.scenario.ack_times.record(elapsed_ns)
                locust_stats.record("send until ack", elapsed_ns / 1e6, length)
        elif kind == "subscribed":
            self._epoch = str(message.get("epoch") or "")
            self.resumable = message.get("position") is not None
            self.subscription = ledger.open(
                self.scenario.name_of(self.number),
                message["topic"],
                self.worker,
                message["position"] if self.resumable else self.scenario.arrivals.newest(),
                epoch=self._epoch,
                previous=self._previous if self.resumable else None,
                recovered=message.get("recovered") is True,
            )
            self.subscribed.set()
        elif kind == "error":
            self._error(message["code"], message.get("detail"))

    def on_unreadable(self, error: Exception) -> None:
        self._error("unreadable", repr(error))

    def on_lost(self, closed: WebSocketClosed) -> bool:
        scenario = self.scenario
        scenario.connections.lost[f"{closed} at {self.worker}"] += 1
        self._end_subscription()
        if not may_reconnect(closed.code):
            return False
        gevent.sleep(scenario.random.uniform(0, BACKOFF_SECONDS[0]))
        self._connect_until_it_works()
        if self.number in scenario.topics:
            self.subscribe()
        return True

    def _error(self, code: str, detail: str | None) -> None:
        errors = self.scenario.connections.errors
        reason = f"{code}: {detail}" if detail else code
        errors[reason if reason in errors or len(errors) < MAX_ERROR_TEXTS else code] += 1

    def _connect_until_it_works(self) -> None:
        wait, longest = BACKOFF_SECONDS
        while not self._connected():
            gevent.sleep(self.scenario.random.uniform(0, wait))
            wait = min(2 * wait, longest)

    def _connected(self) -> bool:
        try:
            milliseconds = self.connect()
        except HandshakeFailed as error:
            self.scenario.connections.refused[str(error)] += 1
            return False
        self.scenario.connect_times.record(int(milliseconds * 1e6))
        return True

    def _end_subscription(self) -> None:
        if self.subscription is not None:
            self.scenario.ledger.close(self.subscription)
            self._previous, self.subscription = self.subscription, None
