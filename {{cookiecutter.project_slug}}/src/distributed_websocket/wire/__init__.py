"""Every message of the protocol as a typed model: what the AsyncAPI document is made of, and what tests check against.

The models describe and never run: `message.py` and `manager.py` read and write by hand, for speed, and an integration
test holds every message of theirs against the models.

    requests.py   from the client
    answers.py    to the client, because it asked
    events.py     to the client, unasked
    fields.py     what their fields hold
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .answers import Ack, Answer, Authenticated, Error, History, Presence, Subscribed, Unsubscribed
from .events import (
    ConnIdSet,
    Delivered,
    DeliveredBroadcast,
    DeliveredByConnId,
    Joined,
    Left,
    Reconnect,
    TokenExpired,
    Welcome,
)
from .fields import WireModel
from .requests import (
    Authenticate,
    Broadcast,
    HistoryRequest,
    PresenceRequest,
    Request,
    Send,
    SendByConnId,
    Subscribe,
    Unsubscribe,
)

__all__ = [
    "ANSWERS",
    "EVENTS",
    "Ack",
    "Answer",
    "Authenticate",
    "Authenticated",
    "Broadcast",
    "ConnIdSet",
    "Delivered",
    "DeliveredBroadcast",
    "DeliveredByConnId",
    "Error",
    "Event",
    "History",
    "HistoryRequest",
    "Joined",
    "Left",
    "Presence",
    "PresenceRequest",
    "Reconnect",
    "Request",
    "Send",
    "SendByConnId",
    "Subscribe",
    "Subscribed",
    "TokenExpired",
    "Unsubscribe",
    "Unsubscribed",
    "Welcome",
    "WireModel",
]


class Event(NamedTuple):
    """What the server says unasked: a name, when, and which messages."""

    name: str
    when: str
    messages: tuple[type[WireModel], ...]


ANSWERS: Final[dict[type[Request], type[Answer]]] = {
    Subscribe: Subscribed,
    Unsubscribe: Unsubscribed,
    Send: Ack,
    Broadcast: Ack,
    SendByConnId: Ack,
    HistoryRequest: History,
    PresenceRequest: Presence,
    Authenticate: Authenticated,
}
"""Each request and what answers it. Instead of it, every request may get an `Error`."""

EVENTS: Final = (
    Event("welcome", "Right after the handshake.", (Welcome,)),
    Event(
        "deliver", "Something was published for this connection.", (Delivered, DeliveredBroadcast, DeliveredByConnId)
    ),
    Event("presence_changed", "Somebody joined or left a topic that the client subscribed to.", (Joined, Left)),
    Event("position_lost", "The worker lost messages of a subscription: `recovered` is false.", (Subscribed,)),
    Event("conn_id_changed", "The service renamed the connection.", (ConnIdSet,)),
    Event("token_expired", "The token that the connection came with has expired.", (TokenExpired,)),
    Event("drain", "The worker is about to restart.", (Reconnect,)),
    Event("refuse", "A message could not be read, or one without a `ref` was refused.", (Error,)),
)
