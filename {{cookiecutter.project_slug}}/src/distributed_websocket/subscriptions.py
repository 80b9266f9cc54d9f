"""Subscribing and unsubscribing a connection, with at once effect on what its manager delivers to it."""

from __future__ import annotations

from .connection import Connection
from .exceptions import InvalidSubscriptionMessage, quote
from .message import Message
from .topics import validate_pattern


def is_subscription_message(message: Message) -> bool:
    return message.type in ("subscribe", "unsubscribe")


def subscribe(connection: Connection, message: Message) -> None:
    """Subscribe a connection to `message.topic`, a topic or pattern.

    Raises `InvalidSubscriptionMessage` when the message does not subscribe, `InvalidSubscription` (one of those) when
    its topic breaks a rule of MQTT 5 §4.7. Subscribing again changes nothing.
    """
    pattern = _pattern_of(connection, message, "subscribe")
    if pattern in connection.topics:
        return
    connection.topics.add(pattern)
    if connection.manager is not None:
        connection.manager.follow(connection, pattern)


def unsubscribe(connection: Connection, message: Message) -> None:
    """Unsubscribe a connection from `message.topic`, if it is subscribed. Raises as `subscribe`."""
    pattern = _pattern_of(connection, message, "unsubscribe")
    if pattern not in connection.topics:
        return
    connection.topics.discard(pattern)
    if connection.manager is not None:
        connection.manager.unfollow(connection, pattern)


def handle_subscription_message(connection: Connection, message: Message) -> None:
    """Call `subscribe` or `unsubscribe`, by the type of the message."""
    if message.type == "unsubscribe":
        unsubscribe(connection, message)
    else:
        subscribe(connection, message)


def _pattern_of(connection: Connection, message: Message, wanted: str) -> str:
    if message.type != wanted:
        raise InvalidSubscriptionMessage(
            f"the type {quote(message.type)} does not {wanted}", connection=connection, received=message
        )
    return validate_pattern(message.topic, max_bytes=connection.limits.topic_bytes, connection=connection)
