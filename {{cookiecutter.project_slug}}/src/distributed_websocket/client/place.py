"""`Place`: where a subscription is in its log, so that it goes on from there and takes nothing twice."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from ..positions import parse_position
from ..topics import MULTI_LEVEL, SEPARATOR, SINGLE_LEVEL, is_pattern
from .events import Fields

MAX_TOPICS: Final = 10_000
"""Topics of a pattern without a position whose newest message is remembered."""


@dataclass(slots=True, eq=False)
class Place:
    """Where a subscription is in its log."""

    ref: str = ""
    """Of the newest request to subscribe."""
    position: str | None = None
    """Everything up to here was delivered. None where no one log orders it all, and before the first answer."""
    epoch: str | None = None
    wanted: bool = True
    """False while it is paused."""
    live: bool = False
    """Whether what comes on this connection is for it."""
    begun: bool = False
    """Whether the server ever said `subscribed`: what is missing behind that is a hole."""
    held: list[Fields] | None = None
    """Not None while missed and live messages may come mixed."""
    newest: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)
    """Where there is no position: that of the newest message of each topic, the one heard last at the end."""

    def take(self, topic: str, position: str) -> bool:
        """Go on to the position of a message. False if it was passed before: the message is a duplicate."""
        at = parse_position(position)
        if self.position is None:
            known = self.newest.get(topic)
            if known is not None and at <= known:
                return False
            self.newest[topic] = at
            self.newest.move_to_end(topic)
            if len(self.newest) > MAX_TOPICS:
                self.newest.popitem(last=False)
        elif at <= parse_position(self.position):
            return False
        else:
            self.position = position
        return True


def overlap(one: str, other: str) -> bool:
    """Whether there can be a topic that both patterns match."""
    if not (is_pattern(one) or is_pattern(other)):
        return one == other
    ours, theirs = one.split(SEPARATOR), other.split(SEPARATOR)
    for our, their in zip(ours, theirs, strict=False):
        if MULTI_LEVEL in (our, their):
            return True
        if our != their and SINGLE_LEVEL not in (our, their):
            return False
    # `sport/#` matches `sport` too (MQTT 5 §4.7.1.2).
    longer = max(ours, theirs, key=len)
    return len(ours) == len(theirs) or longer[min(len(ours), len(theirs)) :] == [MULTI_LEVEL]
