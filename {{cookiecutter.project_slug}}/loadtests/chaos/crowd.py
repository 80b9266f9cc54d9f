"""`Crowd`: all clients, and who says what when. They talk on a fixed timeline, whatever happens to them meanwhile."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from distributed_websocket.auth import issue_token

from ..audit import Audit, audit
from ..histogram import Histogram
from .member import Member, name_of
from .witness import Books, Tally

PAYLOAD = "x" * 64
CONNECTS_PER_SECOND = 100
POLL_SECONDS = 0.02
QUIET_SECONDS = 3
"""Nothing came for so long: nothing more will."""
TOKEN_SECONDS = 24 * 3600
MOVES = 8
"""Rounds at most of moving clients from full workers to an empty one."""


class NotBack(Exception):
    """Some clients did not come back in time; `reasons` are what kept them from it, counted."""

    def __init__(self, missing: int, seconds: float, reasons: Counter[str]) -> None:
        self.missing = missing
        named = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common(3))
        super().__init__(f"{missing:,} clients were not there after {seconds:.0f} s: {named or 'nothing refused them'}")


class Crowd:
    """`async with Crowd(...) as crowd:` all are in their rooms. Member k is in room k modulo `rooms`."""

    def __init__(
        self,
        url: str,
        token_secret: str,
        *,
        users: int,
        rooms: int,
        rate: float,
        seed: int,
        recovers: bool,
        run: str,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.books = Books()
        self.rate = rate
        self.lag = Histogram()
        """How late messages were said, of which the service knows nothing."""
        self.members = [
            Member(
                number,
                f"room/chaos-{run}-{number % rooms + 1}",
                url,
                issue_token(name_of(number), secret=token_secret, lifetime_seconds=TOKEN_SECONDS),
                context,
                self.books,
                recovers,
            )
            for number in range(users)
        ]
        self._dice = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for member in self.members:
            self._tasks.append(self._group.create_task(member.run()))
            await asyncio.sleep(1 / CONNECTS_PER_SECOND)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    # Who is where

    @property
    def by_worker(self) -> Counter[str]:
        return Counter(member.session.worker for member in self.members if member.is_there)

    def at(self, worker: str) -> list[Member]:
        return [member for member in self.members if member.session.worker == worker and member.is_there]

    async def until_back(self, seconds: float) -> None:
        """Raises `NotBack`."""
        began, tally = time.monotonic(), self.books.tally
        while missing := sum(not member.is_there for member in self.members):
            waited = time.monotonic() - began
            if waited > seconds or all(member.is_gone or member.is_there for member in self.members):
                raise NotBack(missing, waited, tally.refused + tally.unreadable)
            await asyncio.sleep(POLL_SECONDS)

    async def fill(self, worker: str, workers: int, seconds: float) -> None:
        """See to it that a worker has at least half of its share of the clients. Raises `NotBack`."""
        share = len(self.members) / workers
        for _ in range(MOVES):
            if len(self.at(worker)) >= share / 2:
                return
            for other, there in self.by_worker.items():
                if other != worker:
                    surplus = round((there - share) * workers / 2) or 1
                    for member in self._dice.sample(self.at(other), max(0, min(surplus, there))):
                        member.move(0.5)
            await asyncio.sleep(0.5)
            await self.until_back(seconds)

    # What is said

    async def talk(self) -> None:
        """One message every 1 / rate seconds, by whoever's turn it is. Until it is cancelled."""
        begin = time.monotonic_ns()
        period_ns = 1e9 / self.rate
        number = 0
        while True:
            due_ns = begin + round(number * period_ns)
            await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            self.lag.record(time.monotonic_ns() - due_ns)
            self._dice.choice(self.members).say(due_ns, PAYLOAD)
            number += 1

    async def settle(self, seconds: float) -> Audit:
        """Wait until nothing is missing, or nothing more comes, and judge."""
        ledger = self.books.ledger
        deadline = time.monotonic() + seconds
        known, changed = (-1, -1), time.monotonic()
        while time.monotonic() < min(deadline, changed + QUIET_SECONDS):
            now = (ledger.acknowledged_count, ledger.delivered_count)
            if now != known:
                known, changed = now, time.monotonic()
            if ledger.settled() and audit(ledger).missing == 0:
                break
            await asyncio.sleep(POLL_SECONDS)
        return audit(ledger)

    # What is measured

    def watch(self) -> None:
        """Forget what happened so far, beside the messages and what should never happen."""
        self.books.tally = Tally(unreadable=self.books.tally.unreadable)
        for member in self.members:
            member.session.watch()

    def waits_ms(self, members: Sequence[Member]) -> list[float]:
        """The longest that each of them had to wait for anything since `watch`, ascending."""
        return sorted(member.session.longest_wait_ns / 1e6 for member in members)

    def those(self, condition: Callable[[Member], bool]) -> list[Member]:
        return [member for member in self.members if condition(member)]
