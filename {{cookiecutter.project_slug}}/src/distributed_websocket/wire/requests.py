"""What a client may send. Fields that a model does not list are passed over; those of a publication travel along."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..requests import HISTORY, MAX_HISTORY
from .fields import ConnId, ConnIds, Nothing, Pattern, Position, Ref, Token, Topic, WireModel


class Request(WireModel):
    model_config = ConfigDict(extra="ignore")
    ref: Ref = None


class Unaddressed(Request):
    """A request that names no connections."""

    conn_id: Nothing = None


class Since(BaseModel):
    """Where the client is: the position of the last message that it has, or of its `subscribed`, and the epoch."""

    position: Position
    epoch: Annotated[str, Field(description="The life of the log, as `subscribed` named it.")]


class Subscribe(Unaddressed):
    """Deliver the messages of a topic or pattern from now on, or from where the client was."""

    type: Literal["subscribe"]
    topic: Pattern
    since: Since | None = None
    examples = (
        {"type": "subscribe", "topic": "room/1", "ref": 1},
        {"type": "subscribe", "topic": "room/+/news", "ref": "s2"},
        {"type": "subscribe", "topic": "room/1", "since": {"position": "1763700000000-0", "epoch": "9f2c"}, "ref": 3},
    )


class Unsubscribe(Unaddressed):
    """Deliver no more messages of a topic or pattern, as it was subscribed to."""

    type: Literal["unsubscribe"]
    topic: Pattern
    examples = ({"type": "unsubscribe", "topic": "room/1", "ref": 4},)


class Publication(Request):
    """What is to be delivered travels whole: these fields and all others but `id`, `from` and `at`."""

    model_config = ConfigDict(extra="allow")
    data: Annotated[Any, Field(description="What is said: any JSON. Other fields travel too.")] = None


class Send(Unaddressed, Publication):
    """Publish to everyone who subscribed to the topic. The `ack` comes once the message is stored."""

    type: Literal["send"]
    topic: Topic
    ephemeral: Annotated[
        bool | None, Field(description="Only for those who are there now: it is not stored, and its `ack` has no id.")
    ] = None
    examples = (
        {"type": "send", "topic": "room/1", "data": {"text": "Hello"}, "ref": "m1"},
        {"type": "send", "topic": "room/1", "data": "typing", "ephemeral": True},
    )


class Broadcast(Unaddressed, Publication):
    """Publish to every connection of every worker. Off unless the policy allows it."""

    type: Literal["broadcast"]
    topic: Nothing = None
    examples = ({"type": "broadcast", "data": "Maintenance at noon", "ref": "m2"},)


class SendByConnId(Publication):
    """Publish to the connections named, on whichever workers they are. Off unless the policy allows it."""

    type: Literal["send_by_conn_id"]
    topic: Nothing = None
    conn_id: ConnId | ConnIds
    examples = (
        {"type": "send_by_conn_id", "conn_id": "f3a9", "data": "for you", "ref": "m3"},
        {"type": "send_by_conn_id", "conn_id": ["f3a9", "07bc"], "data": "for you two"},
    )


class HistoryRequest(Unaddressed):
    """The newest messages of a topic, or those before a position: how to page back."""

    type: Literal["history"]
    topic: Topic
    limit: Annotated[
        Annotated[int, Field(ge=1, le=MAX_HISTORY)] | None, Field(description="At most so many messages.")
    ] = HISTORY
    before: Annotated[Position | None, Field(description="The `id` of the oldest message that the client has.")] = None
    examples = (
        {"type": "history", "topic": "room/1", "limit": 50, "ref": 5},
        {"type": "history", "topic": "room/1", "before": "1763700000000-0", "ref": 6},
    )


class PresenceRequest(Unaddressed):
    """Who is in a topic now, on all workers."""

    type: Literal["presence"]
    topic: Topic
    examples = ({"type": "presence", "topic": "room/1", "ref": 7},)


class Authenticate(Unaddressed):
    """A fresh token of the same user, before the grace period of the old one ends."""

    type: Literal["authenticate"]
    token: Token
    topic: Nothing = None
    examples = ({"type": "authenticate", "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "ref": 8},)
