"""What a server's message means to a client: the events of `ClientSession.received`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

Fields = dict[str, Any]
"""A message as the JSON object that it is."""

DIRECT: Final = ""
"""In place of a topic: what came to this connection alone, or to everybody."""


class Delivered(NamedTuple):
    """A message, once for each subscription that it is for. `topic` is that of the subscription, or `DIRECT`."""

    topic: str
    message: Fields


class Hole(NamedTuple):
    """Messages of this subscription are missing, between the last one delivered and the next one."""

    topic: str


class Subscribed(NamedTuple):
    topic: str


class Answered(NamedTuple):
    ref: str
    answer: Fields


class Refused(NamedTuple):
    """`code` and `detail` of an error. With a `topic`, it is the end of that subscription."""

    ref: str | int | None
    topic: str | None
    code: str
    detail: str


class Postponed(NamedTuple):
    """Something was refused for now. While the session has `refused` requests: call `retry`, with backoff."""


class Welcomed(NamedTuple):
    welcome: Fields


class CaughtUp(NamedTuple):
    """All that was missed is there, or known to be missing. `messages` were delivered since the reconnect."""

    messages: int


class Drain(NamedTuple):
    """Leave and come back, at a random moment of the next `within_seconds`."""

    within_seconds: float


class TokenExpired(NamedTuple):
    """`authenticate` with a fresh token."""


SubscriberEvent = Delivered | Hole | Subscribed | Answered | Refused | Welcomed | CaughtUp
"""What whoever uses the client asked for."""

Event = SubscriberEvent | Postponed | Drain | TokenExpired
"""The others are about the connection itself."""
