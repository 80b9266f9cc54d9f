"""`Crowd`: people who talk in a room over a stack's public way in, come back when they are cut off, and miss nothing.

Each has a token, keeps the load balancer's cookie, resumes from the last position and repeats what has no ack. All that
they send and hear is in a ledger of the load tests, which judges it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from distributed_websocket.auth import issue_token
from distributed_websocket.codes import may_reconnect
from loadtests.audit import Audit, audit
from loadtests.ledger import Ledger, Subscription
from tests.e2e.project_copy import ProjectCopy

COOKIE = "chat_worker"
ROOM = "room/crowd"
LONGEST_BACKOFF_SECONDS = 1.0
LOST = 1006


@dataclass
class Door:
    """Where people come in, and what the tokens are signed with."""

    url: str
    token_secret: str
    ssl: ssl.SSLContext | None = None
    patience_seconds: float = 20
    """How long somebody waits for an answer before the connection is given up."""

    @contextlib.asynccontextmanager
    async def connected(self, user: str, cookie: str = "") -> AsyncIterator[tuple[ClientConnection, str]]:
        """A connection that was welcomed, and the name of its worker."""
        token = issue_token(user, secret=self.token_secret, lifetime_seconds=3600)
        headers = {"Authorization": f"Bearer {token}"} | ({"Cookie": f"{COOKIE}={cookie}"} if cookie else {})
        opening = connect(
            self.url,
            additional_headers=headers,
            ssl=self.ssl,
            proxy=None,
            compression=None,
            open_timeout=self.patience_seconds,
            close_timeout=1,
            ping_interval=2,
            ping_timeout=self.patience_seconds,
        )
        async with opening as websocket:
            async with asyncio.timeout(self.patience_seconds):
                welcome = json.loads(await websocket.recv())
            assert welcome["type"] == "welcome", welcome
            yield websocket, str(welcome["worker"])


def door_of(project: ProjectCopy) -> Door:
    return Door(f"ws://127.0.0.1:{project.base_port}/ws", project.token_secret)


def cookie_of(websocket: ClientConnection) -> SimpleCookie:
    """What the answer to the handshake set."""
    jar = SimpleCookie()
    assert websocket.response is not None
    for line in websocket.response.headers.get_all("Set-Cookie"):
        jar.load(line)
    return jar


class Member:
    """One of them."""

    def __init__(self, crowd: Crowd, name: str) -> None:
        self.name = name
        self.worker = ""
        self.subscription: Subscription | None = None
        """None while there is none."""
        self.unacknowledged: dict[int, str] = {}
        self._crowd = crowd
        self._websocket: ClientConnection | None = None
        self._again: asyncio.Task[None] | None = None
        self._previous: Subscription | None = None
        self._epoch = ""
        self._cookie = ""

    async def stay(self) -> None:
        """Be there until cancelled, coming back as often as it takes."""
        wait = 0.05
        while True:
            try:
                async with self._crowd.door.connected(self.name, self._cookie) as (websocket, worker):
                    wait = 0.05
                    await self._talk(websocket, worker)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else LOST
                self._crowd.closes[code] += 1
                if not may_reconnect(code):
                    raise
            except InvalidStatus as error:
                body = (error.response.body or b"").decode(errors="replace")
                self._crowd.refusals[f"{error.response.status_code} {body}"] += 1
            except (OSError, InvalidHandshake) as error:
                self._crowd.refusals[str(error) or type(error).__name__] += 1
            finally:
                self._leave()
            await asyncio.sleep(random.uniform(0, wait))
            wait = min(2 * wait, LONGEST_BACKOFF_SECONDS)

    async def say(self) -> None:
        """Send one message, now or when there is a connection again."""
        number = self._crowd.ledger.send(ROOM, self.worker, time.monotonic_ns())
        text = json.dumps({"type": "send", "topic": ROOM, "ref": number, "data": {"n": number}})
        self.unacknowledged[number] = text
        if self._websocket is not None:
            with contextlib.suppress(ConnectionClosed):  # its reader finds out too, and it is repeated
                await self._websocket.send(text)

    async def _talk(self, websocket: ClientConnection, worker: str) -> None:
        if COOKIE in (jar := cookie_of(websocket)):
            self._cookie = jar[COOKIE].value
        self.worker = worker
        self._crowd.welcomes.append((time.monotonic(), self.name, worker))
        await self._ask(websocket)
        self._websocket = websocket
        while True:
            self._hear(json.loads(await websocket.recv()))

    async def _ask(self, websocket: ClientConnection) -> None:
        """For the room, and again for what has no ack."""
        if self.subscription is None:
            request: dict[str, Any] = {"type": "subscribe", "topic": ROOM}
            if self._previous is not None:
                request["since"] = {"position": self._previous.end, "epoch": self._epoch}
            await websocket.send(json.dumps(request))
        for text in list(self.unacknowledged.values()):
            await websocket.send(text)

    async def _ask_again(self, websocket: ClientConnection) -> None:
        await asyncio.sleep(0.5)
        with contextlib.suppress(ConnectionClosed):
            await self._ask(websocket)

    def _hear(self, message: dict[str, Any]) -> None:
        ledger = self._crowd.ledger
        match message["type"]:
            case "send":
                assert self.subscription is not None, "a delivery before `subscribed`"
                ledger.deliver(self.subscription, message["data"]["n"], message["id"], time.monotonic_ns())
            case "ack":
                self.unacknowledged.pop(message["ref"], None)
                ledger.acknowledge(message["ref"], message["id"])
            case "subscribed":
                self._epoch = message["epoch"]
                self.subscription = ledger.open(
                    self.name,
                    ROOM,
                    self.worker,
                    message["position"],
                    epoch=self._epoch,
                    previous=self._previous,
                    recovered=message.get("recovered") is True,
                )
            case "error":
                self._crowd.errors[f"{message['code']}: {message['detail']}"] += 1
                if self._websocket is not None and (self._again is None or self._again.done()):
                    self._again = asyncio.create_task(self._ask_again(self._websocket))

    def _leave(self) -> None:
        self._websocket = None
        if self._again is not None:
            self._again.cancel()
        if self.subscription is not None:
            self._crowd.ledger.close(self.subscription)
            self._previous, self.subscription = self.subscription, None


class Crowd:
    """`async with Crowd(door, 30) as crowd:` all are in the room; they talk until `finish`."""

    def __init__(self, door: Door, people: int, *, messages_per_second: float = 40) -> None:
        self.door = door
        self.ledger = Ledger()
        self.members = [Member(self, f"person-{number}") for number in range(people)]
        self.welcomes: list[tuple[float, str, str]] = []
        """Monotonic time, name and worker, of each connection."""
        self.closes: Counter[int] = Counter()
        self.refusals: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._pause = 1 / messages_per_second
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        await self._group.__aenter__()
        self._tasks = [self._group.create_task(member.stay()) for member in self.members]
        await self.until_all_are_there()
        self._talking = self._group.create_task(self._talk())
        return self

    async def __aexit__(self, *raised: Any) -> None:
        for task in (*self._tasks, self._talking):
            task.cancel()
        await self._group.__aexit__(*raised)

    @property
    def by_worker(self) -> Counter[str]:
        """How many are where now."""
        return Counter(member.worker for member in self.members if member.subscription is not None)

    def everybody_is_at(self, workers: set[str]) -> bool:
        return all(member.subscription is not None and member.worker in workers for member in self.members)

    @property
    def arrivals(self) -> Counter[str]:
        """How often each came."""
        return Counter(name for _, name, _ in self.welcomes)

    async def until_all_are_there(self, seconds: float = 30) -> None:
        await self.until(lambda: all(member.subscription is not None for member in self.members), seconds)

    async def until_noticed(self, people: int, seconds: float = 30) -> None:
        """At least so many have lost their connection."""
        await self.until(lambda: self.closes.total() >= people, seconds)

    async def finish(self, seconds: float = 30) -> Audit:
        """Stop the talking and judge, once everything that was sent is acknowledged and nothing is missing."""
        self._talking.cancel()
        await self.until_all_are_there(seconds)
        done = lambda: self.ledger.settled() and audit(self.ledger).missing == 0  # noqa: E731
        with contextlib.suppress(AssertionError):  # what is missing then is in the audit
            await self.until(done, seconds)
        return audit(self.ledger)

    async def _talk(self) -> None:
        while True:
            await random.choice(self.members).say()
            await asyncio.sleep(self._pause)

    async def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            absent = [member.name for member in self.members if member.subscription is None]
            assert time.monotonic() < deadline, f"after {seconds} s: absent {absent}, {self.refusals}, {self.errors}"
            await asyncio.sleep(0.05)


def assert_nothing_lost(judged: Audit) -> None:
    """Everything sent was acknowledged, and reached everybody once, in order."""
    assert judged.sent == judged.acknowledged > 0
    assert judged.expected > 0
    figures = (judged.missing, judged.duplicates, judged.out_of_order, judged.unrecovered, judged.stale)
    assert figures == (0, 0, 0, 0, 0), f"missing, duplicates, out of order, unrecovered, stale: {figures}"
    assert (judged.foreign, judged.misrouted, judged.position_conflicts, judged.shared_positions) == (0, 0, 0, 0)
