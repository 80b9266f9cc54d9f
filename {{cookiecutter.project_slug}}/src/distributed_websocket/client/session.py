"""`ClientSession`: what a client knows across its connections, and what it says next. Does no I/O and has no clock.

It holds the subscriptions with their positions and the requests that have no answer yet (MQTT 5 §4.1 calls that the
session state). Any kind of I/O can drive it, and writes what `to_send` gives after each call:

    session.connected()                     a connection is there: everything is asked for again, from where it was
    for event in session.received(text):    once for each text message from the server
    session.disconnected()                  it is gone, whatever the reason; `may_reconnect` says whether to come back
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import orjson

from ..codes import ErrorCode
from ..message import encode
from ..positions import parse_position
from ..topics import is_pattern, matches
from .events import (
    DIRECT,
    Answered,
    CaughtUp,
    Delivered,
    Drain,
    Event,
    Fields,
    Hole,
    Postponed,
    Refused,
    Subscribed,
    TokenExpired,
    Welcomed,
)
from .place import Place, overlap

FOR_NOW: Final = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED, ErrorCode.RATE_LIMITED})
"""Errors after which the same request may succeed later."""

RETRY_AT_ONCE: Final = 50
"""Requests that `retry` repeats: fewer than a server takes as one burst."""

ECHO_TOPIC: Final = "$echo"
"""To unsubscribe from what nobody can be subscribed to changes nothing, and is answered in its turn: when everything
that was asked before has been dealt with."""


@dataclass(slots=True)
class _Request:
    text: str
    again: bool = False
    """Whether it is repeated on the next connection as it is."""
    subscribes: str | None = None
    """The topic that it subscribes to."""
    pauses: Place | None = None
    releases: tuple[Place, ...] = ()
    """Those whose held messages are complete when this is answered."""
    ends_catch_up: bool = False


class ClientSession:
    """The state of one client. Refs have a random prefix, so that those of two clients of a user never meet."""

    def __init__(self) -> None:
        self._prefix = secrets.token_urlsafe(9)
        self._numbers = count(1)
        self._places: dict[str, Place] = {}
        self._patterns: list[str] = []
        self._requests: dict[str, _Request] = {}
        self._refused: set[str] = set()
        self._outgoing: list[str] = []
        self._connected = False
        self._catching_up = False
        self._delivered = 0

    @property
    def places(self) -> Mapping[str, Place]:
        """By topic or pattern."""
        return self._places

    @property
    def refused(self) -> bool:
        """Whether anything waits for `retry`."""
        return bool(self._refused)

    def to_send(self) -> list[str]:
        """The messages to send now, in order. Gives each of them once."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    # What the caller wants. Where a `ref` is returned, the answer has it.

    def send(self, topic: str, data: Any) -> str:
        """Publish; answered by an `ack`. Raises `TypeError` for data that JSON cannot say."""
        return self._ask({"type": "send", "topic": topic, "data": data}, again=True)

    def send_ephemeral(self, topic: str, data: Any) -> None:
        """Publish to those who are there now; to nobody without a connection. Raises `TypeError` as `send` does."""
        text = encode({"type": "send", "topic": topic, "data": data, "ephemeral": True}).decode()
        if self._connected:
            self._outgoing.append(text)

    def history(self, topic: str, limit: int, before: str | None = None) -> str:
        more = {} if before is None else {"before": before}
        return self._ask({"type": "history", "topic": topic, "limit": limit, **more}, again=True)

    def presence(self, topic: str) -> str:
        return self._ask({"type": "presence", "topic": topic}, again=True)

    def authenticate(self, token: str) -> str:
        return self._ask({"type": "authenticate", "token": token}, urgent=True)

    def echo(self) -> str:
        """Ask for a sign of life."""
        return self._ask({"type": "unsubscribe", "topic": ECHO_TOPIC}, urgent=True)

    def subscribe(self, topic: str) -> None:
        """Raises `ValueError` when the session is subscribed to just this topic or pattern."""
        if topic in self._places:
            raise ValueError(f"subscribed to {topic!r} already")
        place = self._places[topic] = Place()
        if is_pattern(topic):
            self._patterns.append(topic)
        self._ask_for(topic, place)

    def unsubscribe(self, topic: str) -> None:
        """Nothing more is delivered for it, at once."""
        self._drop(self._remove(topic).ref)
        if self._connected:
            self._ask({"type": "unsubscribe", "topic": topic})
            self._look_whether_caught_up()

    def pause(self, topic: str) -> None:
        """Ask the server to send nothing more of it for now. What is on its way still comes."""
        place = self._places[topic]
        place.wanted = False
        if self._connected:
            self._drop(place.ref)
            ref = self._ask({"type": "unsubscribe", "topic": topic})
            self._requests[ref].pauses = place
            self._look_whether_caught_up()

    def resume(self, topic: str) -> None:
        """Go on from where it was paused."""
        place = self._places[topic]
        place.wanted = True
        self._ask_for(topic, place)

    def forget(self, ref: str) -> None:
        """Nobody waits for the answer to this any more. What was sent already may have been done."""
        request = self._drop(ref)
        if request is not None and request.text in self._outgoing:
            self._outgoing.remove(request.text)

    def retry(self) -> None:
        """Ask again for some of what was refused for now, the oldest first."""
        for ref in [ref for ref in self._requests if ref in self._refused][:RETRY_AT_ONCE]:
            self._refused.discard(ref)
            self._outgoing.append(self._requests[ref].text)

    def _ask(self, request: Fields, *, again: bool = False, urgent: bool = False) -> str:
        ref = f"{self._prefix}-{next(self._numbers)}"
        text = encode({**request, "ref": ref}).decode()
        self._requests[ref] = _Request(text, again)
        if self._connected:
            # What is refused for now holds up what comes behind it: so the order stays, and the server gets some rest.
            if self._refused and not urgent:
                self._refused.add(ref)
            else:
                self._outgoing.append(text)
        return ref

    def _ask_for(self, topic: str, place: Place) -> None:
        request: Fields = {"type": "subscribe", "topic": topic}
        if place.position is not None and place.epoch is not None:
            request["since"] = {"position": place.position, "epoch": place.epoch}
        place.ref = self._ask(request)
        self._requests[place.ref].subscribes = topic

    def _ask_echo(self, *, ends_catch_up: bool) -> None:
        request = self._requests[self.echo()]
        request.releases = tuple(place for place in self._places.values() if place.held is not None)
        request.ends_catch_up = ends_catch_up

    def _drop(self, ref: object) -> _Request | None:
        if not isinstance(ref, str):
            return None
        self._refused.discard(ref)
        return self._requests.pop(ref, None)

    def _remove(self, topic: str) -> Place:
        if is_pattern(topic):
            self._patterns.remove(topic)
        return self._places.pop(topic)

    # Connections

    def connected(self) -> None:
        """There is a new connection: subscribe again, and repeat in order what has no answer."""
        self._connected = True
        unanswered = {ref: request for ref, request in self._requests.items() if request.again}
        self._requests.clear()
        for topic, place in self._places.items():
            if place.wanted:
                self._ask_for(topic, place)
        self._requests |= unanswered
        self._outgoing += [request.text for request in unanswered.values()]
        self._catching_up = any(place.wanted and place.begun for place in self._places.values())
        self._delivered = 0

    def disconnected(self) -> None:
        """The connection is gone. What was held is dropped: it comes again."""
        self._connected = False
        self._refused.clear()
        self._outgoing.clear()
        for place in self._places.values():
            place.live = False
            place.held = None

    # What the server says

    def received(self, text: str | bytes) -> list[Event]:
        """What a message from the server means. Raises `ValueError` for what is none of the protocol."""
        fields = orjson.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"a message is a JSON object, not {type(fields).__name__}")
        match fields.get("type"):
            case "subscribed":
                return self._subscribed(fields)
            case "ack" | "unsubscribed" | "history" | "presence" | "authenticated":
                return self._answered(fields)
            case "error":
                return self._errored(fields)
            case "welcome":
                return [Welcomed(fields)]
            case "reconnect":
                return [Drain(float(fields.get("within_seconds", 0)))]
            case "token_expired":
                return [TokenExpired()]
            case _:
                return self._deliver(fields)

    def _deliver(self, fields: Fields) -> list[Event]:
        topic, position = fields.get("topic"), fields.get("id")
        if topic is None:
            return [Delivered(DIRECT, fields)]
        events: list[Event] = []
        for pattern in (topic, *self._patterns):
            place = self._places.get(pattern)
            # One that is not live has no part in this: the message comes for another subscription that matches it.
            if place is None or not place.live or not (pattern == topic or matches(topic, pattern)):
                continue
            if place.held is not None and position is not None:
                place.held.append(fields)
            elif position is None or place.take(topic, position):
                events.append(Delivered(pattern, fields))
        self._delivered += len(events)
        return events

    def _subscribed(self, fields: Fields) -> list[Event]:
        topic, ref = str(fields.get("topic")), fields.get("ref")
        place = self._places.get(topic)
        events: list[Event] = []
        if ref is None:  # unasked: the worker lost its place in the log
            if place is None or not place.live:
                return []
            events += self._release(topic, place)
            place.newest.clear()
        elif self._drop(ref) is None or place is None:
            return []  # paused or unsubscribed from meanwhile
        else:
            events.append(Subscribed(topic))
        place.live = True
        if fields.get("recovered") is True:
            # A message that comes now may be a missed one, or a live one of another subscription behind which there
            # are missed ones still to come. So they are held, and put in order once the replay is over.
            if any(overlap(topic, other) for other in self._places if other != topic):
                place.held = []
                self._ask_echo(ends_catch_up=False)
        else:
            if ref is not None or place.position is not None:  # unasked, the position is that of one shard of several
                place.position, place.epoch = fields.get("position"), fields.get("epoch")
            if place.begun:
                events.append(Hole(topic))
        place.begun = True
        self._look_whether_caught_up()
        return events

    def _release(self, topic: str, place: Place) -> list[Event]:
        held, place.held = place.held or [], None
        held.sort(key=lambda fields: parse_position(fields["id"]))
        events: list[Event] = [Delivered(topic, fields) for fields in held if place.take(fields["topic"], fields["id"])]
        self._delivered += len(events)
        return events

    def _look_whether_caught_up(self) -> None:
        """Once nothing is missed that has not been asked for and answered, the next echo comes behind the replays."""
        if self._catching_up and all(place.live for place in self._places.values() if place.wanted):
            self._catching_up = False
            self._ask_echo(ends_catch_up=True)

    def _answered(self, fields: Fields) -> list[Event]:
        request = self._drop(fields.get("ref"))
        if request is None:
            return []
        events: list[Event] = [Answered(fields["ref"], fields)]
        paused = request.pauses
        if paused is not None:
            paused.live = False
            paused.held = None
        for topic, place in self._places.items():
            if place in request.releases:
                events += self._release(topic, place)
            if place is paused and place.wanted and place.ref not in self._requests:
                self._ask_for(topic, place)  # resumed before this could be done
        if request.ends_catch_up:
            events.append(CaughtUp(self._delivered))
        return events

    def _errored(self, fields: Fields) -> list[Event]:
        ref, code, detail = fields.get("ref"), str(fields.get("code")), str(fields.get("detail"))
        if isinstance(ref, str) and ref in self._requests and code in FOR_NOW:
            self._refused.add(ref)
            return [Postponed()]
        request = self._drop(ref)
        topic = None
        if request is not None and request.subscribes is not None:
            topic = request.subscribes
            self._remove(topic)
            self._look_whether_caught_up()
        return [Refused(ref, topic, code, detail)]
