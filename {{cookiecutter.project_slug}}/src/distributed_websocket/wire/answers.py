"""What the server answers to a request."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..codes import ErrorCode
from ..presence import MAX_MEMBERS
from .events import Delivered, Joined, Left
from .fields import ExpiresAt, Milliseconds, Pattern, Position, Ref, Topic, WireModel, Worker


class Answer(WireModel):
    ref: Ref = None


class Subscribed(Answer):
    """The subscription is live. With `recovered: true` what was missed comes next, then what is new.

    Without `since` there is no `recovered`. Also sent unasked, `recovered` false, when the worker lost its place.
    """

    type: Literal["subscribed"]
    topic: Pattern
    position: Annotated[Position | None, Field(description="Resume from here. Null where no one log orders it all.")]
    epoch: Annotated[str | None, Field(description="The life of the log; null where position is.")]
    recovered: Annotated[bool | None, Field(description="False: there is a hole, reload what is shown.")] = None
    examples = (
        {"type": "subscribed", "topic": "room/1", "position": "1763700000000-0", "epoch": "9f2c", "ref": 1},
        {"type": "subscribed", "topic": "+/news", "position": None, "epoch": None, "ref": "s2"},
        {"type": "subscribed", "topic": "room/1", "position": "1763700000000-0", "epoch": "9f2c", "recovered": True},
    )


class Unsubscribed(Answer):
    """No more messages come for this topic or pattern; those of other patterns that match it still do."""

    type: Literal["unsubscribed"]
    topic: Pattern
    examples = ({"type": "unsubscribed", "topic": "room/1", "ref": 4},)


class Ack(Answer):
    """The message is stored, and everyone who is subscribed gets it. Only for messages with a `ref`."""

    type: Literal["ack"]
    id: Annotated[Position | None, Field(description="The message's position; null from a broker without a log.")]
    examples = ({"type": "ack", "ref": "m1", "id": "1763700000000-1"},)


class History(Answer):
    """A page of a topic's messages, oldest first. For the page before it, ask `before` the first one's `id`."""

    type: Literal["history"]
    topic: Topic
    messages: list[Delivered | Joined | Left]
    more: Annotated[bool, Field(description="Whether there are older ones.")]
    examples = (
        {"type": "history", "topic": "room/1", "messages": [Delivered.examples[0]], "more": True, "ref": 5},
        {"type": "history", "topic": "room/2", "messages": [], "more": False, "ref": 6},
    )


class Member(BaseModel):
    """A user who is in a topic: the first of its workers, and since when."""

    model_config = ConfigDict(extra="forbid")
    user: Annotated[str, Field(description="By the server's word.")]
    worker: Worker
    since: Milliseconds


class Presence(Answer):
    """Who is in a topic, each user once. Only where the policy shows presence."""

    type: Literal["presence"]
    topic: Topic
    members: Annotated[list[Member], Field(max_length=MAX_MEMBERS)]
    total: Annotated[int, Field(ge=0, description="How many there are; `members` may hold fewer.")]
    examples = (
        {
            "type": "presence",
            "topic": "room/1",
            "members": [{"user": "alice", "worker": "chat-1", "since": 1763700000000}],
            "total": 1,
            "ref": 7,
        },
    )


class Authenticated(Answer):
    """The fresh token is good; the connection may stay."""

    type: Literal["authenticated"]
    expires_at: ExpiresAt
    examples = ({"type": "authenticated", "expires_at": 1763703600.0, "ref": 8},)


class Error(Answer):
    """What the client sent was not done, and why. The connection stays, and others notice nothing.

    `ref` is null where the message had none, or could not be read.
    """

    type: Literal["error"]
    code: ErrorCode
    detail: Annotated[str, Field(description="For people. It may change; `code` does not.")]
    examples = (
        {"type": "error", "code": "not_allowed", "detail": "you may not broadcast", "ref": "m2"},
        {"type": "error", "code": "malformed_json", "detail": "messages are text frames", "ref": None},
    )
