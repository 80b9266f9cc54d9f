"""Who is in a topic now, on all workers; and `joined` and `left` for those who are there.

A user is in a topic from the first subscription, on whatever worker, to some seconds after the last one ended: who only
reconnects, to the same or to another worker, never left. A worker that dies says nothing; the others notice that its
heartbeat ended, and by then most of its users are somewhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Set
from typing import TYPE_CHECKING, Final

from .brokers.interface import LogBroker, Member, Place
from .exceptions import BrokerError, NotAllowed
from .topics import is_pattern

if TYPE_CHECKING:
    from .connection import Connection
    from .policy import Policy

logger = logging.getLogger(__name__)

LINGER_SECONDS: Final = 10.0
"""From the end of a user's last subscription until the user has left."""

BEAT_SECONDS: Final = 5.0
"""How often a worker says that it lives, and looks for others that no longer do."""

LIVES_SECONDS: Final = 3 * BEAT_SECONDS
"""How long a worker is believed to live after its last heartbeat."""

MAX_MEMBERS: Final = 1_000
"""Members in one answer; `total` says how many there are."""


class Presence:
    """Keeps this worker's part of the presence in the broker up to date.

    Changes of a tick go together; what the broker did not take is tried again with the next heartbeat.
    """

    def __init__(self, broker: LogBroker, channel: str, worker: str, policy: Policy) -> None:
        self._broker = broker
        self._channel = channel
        self._worker = worker
        self._policy = policy
        self._here: Counter[Place] = Counter()
        """Subscriptions of this worker's connections."""
        self._known: set[Place] = set()
        """What the broker knows of this worker."""
        self._since: dict[int, int] = {}
        """Since when the broker has this worker live without a gap, by shard."""
        self._changed: set[Place] = set()
        self._lingering: dict[Place, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="presence")

    async def stop(self) -> None:
        """Fall silent. The users are not said to have left: they come back elsewhere, before the heartbeat runs out."""
        for timer in self._lingering.values():
            timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __len__(self) -> int:
        """Users in topics by this worker's connections; one who is in two topics counts twice."""
        return len(self._here)

    def enter(self, connection: Connection, pattern: str) -> None:
        place = self._place(connection, pattern)
        if place is not None:
            self._here[place] += 1
            timer = self._lingering.pop(place, None)
            if timer is not None:
                timer.cancel()
            elif self._here[place] == 1:
                self._change(place)

    def leave(self, connection: Connection, pattern: str) -> None:
        place = self._place(connection, pattern)
        if place is not None and place in self._here:
            self._here[place] -= 1
            if not self._here[place]:
                del self._here[place]
                loop = asyncio.get_running_loop()
                self._lingering[place] = loop.call_later(LINGER_SECONDS, self._left, place)

    def renew(self) -> None:
        """The broker lost what it knew: tell it again."""
        self._tell_again(self._known)

    async def members(self, topic: str) -> tuple[list[Member], int]:
        """Up to `MAX_MEMBERS` members, and how many there are in all."""
        if not self._policy.shows_presence(topic):
            raise NotAllowed("presence is not kept for this topic")
        return await self._broker.presence_members(
            self._channel, self._broker.shard_of(topic), topic, limit=MAX_MEMBERS
        )

    def _place(self, connection: Connection, pattern: str) -> Place | None:
        if not connection.user or "\n" in connection.user:  # the broker separates names by line breaks
            return None
        if is_pattern(pattern) or not self._policy.shows_presence(pattern):
            return None
        return Place(pattern, connection.user)

    def _left(self, place: Place) -> None:
        del self._lingering[place]
        self._change(place)

    def _change(self, place: Place) -> None:
        self._changed.add(place)
        self._wake.set()

    def _tell_again(self, places: Set[Place]) -> None:
        self._changed |= places
        self._known -= places
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        beat_at = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(beat_at):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            beats = loop.time() >= beat_at
            if beats:
                beat_at = loop.time() + BEAT_SECONDS
            changed: dict[int, set[Place]] = {shard: set() for shard in range(self._broker.shards)}
            for place in self._changed:
                changed[self._broker.shard_of(place.topic)].add(place)
            self._changed = set()
            await asyncio.gather(
                *(self._tell(shard, places, beats=beats) for shard, places in changed.items() if beats or places)
            )

    async def _tell(self, shard: int, changed: set[Place], *, beats: bool) -> None:
        """The part of one shard: where it fails, the others are told all the same."""
        try:
            if beats:
                since = await self._broker.presence_beat(
                    self._channel, shard, self._worker, lives_seconds=LIVES_SECONDS
                )
                self._lives(shard, since)
            # One that left is told whether or not it is known: an entry that seemed to fail may have been noted.
            left = [place for place in changed if place not in self._here and place not in self._lingering]
            entered = list(changed - self._known - set(left))
            if entered or left:
                since = await self._broker.presence_change(
                    self._channel, shard, self._worker, entered, left, lives_seconds=LIVES_SECONDS
                )
                self._lives(shard, since)
                self._known.update(entered)
                self._known.difference_update(left)
        except BrokerError as exc:
            self._changed |= changed
            logger.warning("shard %d: presence: %s; trying again in %g s", shard, exc, BEAT_SECONDS)
        except Exception:
            self._changed |= changed
            logger.exception(
                "shard %d: presence failed in an unforeseen way; trying again in %g s", shard, BEAT_SECONDS
            )

    def _lives(self, shard: int, since: int) -> None:
        """The broker says since when; after a gap others may have taken away what it knew of this worker."""
        if self._since.get(shard) != since:
            self._since[shard] = since
            self._tell_again({place for place in self._known if self._broker.shard_of(place.topic) == shard})
