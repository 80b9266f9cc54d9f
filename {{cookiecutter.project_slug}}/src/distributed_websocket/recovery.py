"""What was missed: the newest part of a shard's log kept in memory, and the way back into the log behind it.

A position is a promise: who has everything up to it gets everything behind it, once, in order; or is told that the log
does not reach back so far. There is no third answer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .brokers.interface import START, Entry, Extent
from .positions import parse_position
from .topics import is_pattern, matches


class Since(NamedTuple):
    """Where a client was when it lost its connection."""

    position: str
    epoch: str


def reaches_back(extent: Extent, since: Since) -> bool:
    """Whether everything behind `since` is still in the log."""
    if since.epoch != extent.epoch:
        return False
    position = parse_position(since.position)
    if position > parse_position(extent.last):
        return False  # the log lost its end: positions that were given are not in it
    nothing_given_up = not extent.given_up or since.position == extent.last
    return nothing_given_up or (bool(extent.first) and parse_position(extent.first) <= position)


def concerns(entry: Entry, pattern: str) -> bool:
    """Whether a subscriber of `pattern` gets the entry: one without a topic, or with names, goes to others."""
    return bool(entry.topic) and not entry.conn_ids and matches(entry.topic, {pattern})


class Tail:
    """The newest entries of one shard, by topic, so that most who come back never ask Redis.

    Holds everything behind `floor`, at most `max_entries` entries and `max_bytes` bytes of bodies.
    """

    def __init__(self, floor: str = START, *, max_entries: int = 10_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self.floor = floor
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: deque[Entry] = deque()
        self._by_topic: dict[str, deque[Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add what was read, in order, behind what is there."""
        for entry in entries:
            self._entries.append(entry)
            self._bytes += len(entry.body)
            topic = _topic(entry)
            try:
                self._by_topic[topic].append(entry)
            except KeyError:
                self._by_topic[topic] = deque((entry,))
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        entry = self._entries.popleft()
        self._bytes -= len(entry.body)
        self.floor = entry.position
        topic = _topic(entry)
        of_topic = self._by_topic[topic]
        of_topic.popleft()
        if not of_topic:
            del self._by_topic[topic]

    def reaches(self, position: str) -> bool:
        """Whether everything behind a position that was read is here."""
        return parse_position(position) >= parse_position(self.floor)

    @property
    def oldest(self) -> str:
        """The oldest position that is here; "" when nothing is."""
        return self._entries[0].position if self._entries else ""

    def before(self, topic: str, position: str, *, limit: int) -> list[Entry]:
        """The newest entries of a topic before a position ("" for all), in order."""
        entries = list(self._by_topic.get(topic, ()))
        end = bisect_left(entries, parse_position(position), key=_order) if position else len(entries)
        return entries[max(0, end - limit) : end]

    def behind(self, pattern: str, position: str) -> list[Entry] | None:
        """The entries of a topic or pattern behind a position, in order; `None` when the tail does not reach it."""
        if not self.reaches(position):
            return None
        after = parse_position(position)
        if not is_pattern(pattern):
            return self._cut(self._by_topic.get(pattern, ()), after)
        found: list[Entry] = []
        topics = [topic for topic in self._by_topic if topic and matches(topic, {pattern})]
        for topic in topics:
            found += self._cut(self._by_topic[topic], after)
        if len(topics) > 1:
            found.sort(key=_order)
        return found

    @staticmethod
    def _cut(entries: Sequence[Entry], after: tuple[int, int]) -> list[Entry]:
        as_list = list(entries)
        return as_list[bisect_right(as_list, after, key=_order) :]


def _topic(entry: Entry) -> str:
    """The topic whose subscribers get the entry; "" for an entry that is not theirs."""
    return "" if entry.conn_ids else entry.topic


def _order(entry: Entry) -> tuple[int, int]:
    return parse_position(entry.position)
