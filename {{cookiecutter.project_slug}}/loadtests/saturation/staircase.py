"""`Staircase`: the broadcast scenario, whose members send faster with each step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

from gevent.event import Event

from ..broadcast import Broadcast
from ..settings import Settings

LEAD_NS = 200_000_000
"""Between the announcement of a step and its first message."""


class Stair:
    """One step: message k of it is due at `begin_ns` + k / `rate`."""

    def __init__(self, rate: float, messages: int) -> None:
        self.rate = rate
        self.messages = messages
        self.begin_ns = time.monotonic_ns() + LEAD_NS
        self.ended = False
        """What is due and was not sent by now is not sent any more."""


class Staircase(Broadcast):
    def __init__(self, settings: Settings, login_token: str) -> None:
        super().__init__(settings, login_token)
        self._stairs: list[Stair] = []
        self._announced = [Event()]  # one for each stair, and one for the next

    def step(self, rate: float, seconds: float) -> Stair:
        """Announce the next step."""
        stair = Stair(rate, max(1, int(rate * seconds)))
        self._stairs.append(stair)
        self._announced.append(Event())
        self._announced[-2].set()
        self.sending.set()
        return stair

    def due_times(self, number: int) -> Iterator[int]:
        """Step after step; waits where the next one is not announced."""
        for step in count():
            self._announced[step].wait()
            stair = self._stairs[step]
            for k in range(self.slot(number), stair.messages, self.settings.users):
                if stair.ended:
                    break
                yield stair.begin_ns + round(k * 1e9 / stair.rate)
