"""The broadcast scenario without an end: whoever is there at the beginning sends in turn, who comes later listens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import gevent

from ..broadcast import Broadcast, BroadcastUser
from ..settings import Settings

POLL_SECONDS = 0.1


class OpenEnd(Broadcast):
    def __init__(self, settings: Settings, login_token: str) -> None:
        super().__init__(settings, login_token)
        self._senders = 0

    def enlist(self, member: BroadcastUser) -> int:
        number = super().enlist(member)
        if self.rooms_assigned.is_set():  # then the room of whoever was the first, second, third ... there
            self.topics[number] = self.topics[number % self._senders]
        return number

    def slot(self, number: int) -> int:
        return number

    def due_times(self, number: int) -> Iterator[int]:
        if number < self._senders:
            for k in itertools.count(number, self._senders):
                yield self.begin_ns + round(k * 1e9 / self.settings.rate)

    def conduct(self) -> None:
        """Once all users are spawned: deal them over the rooms, and begin when everybody is subscribed."""
        while not all(member.socket is not None for member in self.members):
            gevent.sleep(POLL_SECONDS)
        self._senders = len(self.members)
        self.assign_rooms()
        while self.connections.joined < self._senders:
            gevent.sleep(POLL_SECONDS)
        self.begin()


class LocustUser(BroadcastUser):
    """A member whom the page can send away: from then on nothing has to reach it."""

    def on_stop(self) -> None:
        self._end_subscription()
        super().on_stop()
