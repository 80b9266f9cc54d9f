"""What the server sends unasked: what others published, and what becomes of the connection."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from .fields import ConnId, ExpiresAt, Milliseconds, Position, Ref, Topic, User, WireModel, Worker


class Welcome(WireModel):
    """The first message on every connection."""

    type: Literal["welcome"]
    conn_id: ConnId
    worker: Worker
    user: User
    examples = ({"type": "welcome", "conn_id": "f3a9", "worker": "chat-1", "user": "alice"},)


class Delivery(WireModel):
    """The sender's object, whole, with what the server vouches for."""

    model_config = ConfigDict(extra="allow")
    id: Annotated[
        Position | None, Field(description="Its position; absent where there is no log, or it is ephemeral.")
    ] = None
    sender: Annotated[User, Field(alias="from")] = None
    at: Annotated[Milliseconds | None, Field(description="When the worker took it: Unix time in milliseconds.")] = None
    ref: Annotated[Ref, Field(description="The sender's `ref`, where it gave one.")] = None
    data: Annotated[Any, Field(description="What was said. The sender's other fields are here too.")] = None


class Delivered(Delivery):
    """A message of a topic that the client subscribed to: once, however many of its patterns match."""

    type: Literal["send"]
    topic: Topic
    examples = (
        {
            "id": "1763700000000-1",
            "type": "send",
            "topic": "room/1",
            "data": {"text": "Hello"},
            "ref": "m1",
            "from": "alice",
            "at": 1763700000000,
        },
    )


class DeliveredBroadcast(Delivery):
    """A message to every connection."""

    type: Literal["broadcast"]
    examples = (
        {
            "id": "1763700000000-2",
            "type": "broadcast",
            "data": "Maintenance at noon",
            "from": "root",
            "at": 1763700000002,
        },
    )


class DeliveredByConnId(Delivery):
    """A message to this connection by its id."""

    type: Literal["send_by_conn_id"]
    examples = (
        {"id": "1763700000000-3", "type": "send_by_conn_id", "data": "for you", "from": "root", "at": 1763700000003},
    )


class PresenceChange(WireModel):
    id: Position
    topic: Topic
    user: Annotated[str, Field(description="By the server's word.")]
    at: Milliseconds


class Joined(PresenceChange):
    """A user came into a topic, on whatever worker. Only where the policy shows presence."""

    type: Literal["joined"]
    examples = ({"id": "1763700000000-4", "type": "joined", "topic": "room/1", "user": "bob", "at": 1763700000000},)


class Left(PresenceChange):
    """A user left a topic: some seconds after the last subscription ended, or when its worker died."""

    type: Literal["left"]
    examples = ({"id": "1763700060000-0", "type": "left", "topic": "room/1", "user": "bob", "at": 1763700060000},)


class ConnIdSet(WireModel):
    """The service gave the connection another id."""

    type: Literal["set_conn_id"]
    conn_id: ConnId
    examples = ({"type": "set_conn_id", "conn_id": "07bc"},)


class TokenExpired(WireModel):
    """Send `authenticate` with a fresh token, or the connection is closed with 4002 when the grace period ends."""

    type: Literal["token_expired"]
    expires_at: ExpiresAt
    grace_seconds: Annotated[float, Field(ge=0)]
    examples = ({"type": "token_expired", "expires_at": 1763703600.0, "grace_seconds": 30.0},)


class Reconnect(WireModel):
    """The worker goes away. Come back to another at a random moment of the window; what is left is closed with 1012."""

    type: Literal["reconnect"]
    within_seconds: Annotated[float, Field(ge=0, description="The length of the window.")]
    examples = ({"type": "reconnect", "within_seconds": 5.0},)
