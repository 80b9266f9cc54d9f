"""The library's exceptions: one tree, each with a code for the client, its connection and what was received.

    WebSocketException                    anything below; also the base for an application's own
    ├── InvalidMessage                    a client sent what cannot be understood
    │   └── InvalidSubscriptionMessage    ... to subscribe or to unsubscribe
    │       └── InvalidSubscription       ... because its topic or pattern breaks a rule of MQTT 5 §4.7
    ├── InvalidToken                      a bearer token proves nothing
    ├── NotAllowed                        the policy refused it
    ├── LimitExceeded                     too large, too often, too many
    ├── Overloaded                        the worker has too much to do
    └── BrokerError                       the broker cannot be reached, or did not take a message

Those that only a client raises, `ConnectionEnded` and `RequestRefused`, are in `client/errors.py`, below the same base.

The text of an exception may go to the client and into logs: whoever raises one quotes topics and types in it, with
`quote`, but never tokens or the data of a message. Those are in `received`, which nothing prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .codes import ErrorCode

if TYPE_CHECKING:
    from .connection import Connection

_QUOTED_CHARACTERS = 80


class WebSocketException(Exception):
    """Base of all exceptions of the library, except those of FastAPI and of the network.

    `connection` is the one it happened on, None where there is none; `received` is what it was about, as received;
    `code`, where given, replaces the one of the class.
    """

    code: ErrorCode = ErrorCode.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        connection: Connection | None = None,
        received: object = None,
        code: ErrorCode | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.connection = connection
        self.received = received
        if code is not None:
            self.code = code


class InvalidMessage(WebSocketException):
    """A client sent what cannot be understood: not JSON, a missing or mistyped field, an unknown type."""

    code = ErrorCode.INVALID_MESSAGE


class InvalidSubscriptionMessage(InvalidMessage):
    """A message that should subscribe or unsubscribe does not: wrong type, no topic, or as its subclass says."""


class InvalidSubscription(InvalidSubscriptionMessage):
    """A topic or pattern breaks a rule of MQTT 5 §4.7; also raised for publishing to a pattern."""

    code = ErrorCode.INVALID_TOPIC


class InvalidToken(WebSocketException):
    """A token that proves nothing; the text says why and never holds the token."""

    code = ErrorCode.INVALID_TOKEN


class NotAllowed(WebSocketException):
    """The policy refused what the connection asked for."""

    code = ErrorCode.NOT_ALLOWED


class LimitExceeded(WebSocketException):
    """One of the limits was passed; `code` says which."""

    code = ErrorCode.RATE_LIMITED


class Overloaded(WebSocketException):
    """The worker has too much to do; the same request may succeed later."""

    code = ErrorCode.OVERLOADED


class BrokerError(WebSocketException):
    """The broker cannot be reached, or did not take a message."""

    code = ErrorCode.UNAVAILABLE


def quote(received: object) -> str:
    """`received` for the text of an error: a string in at most 83 characters, printable; of anything else the type."""
    if isinstance(received, str):
        text = repr(received[:_QUOTED_CHARACTERS])
        if len(received) <= _QUOTED_CHARACTERS and len(text) <= _QUOTED_CHARACTERS + 2:
            return text
        return f"{text[:_QUOTED_CHARACTERS]}..."  # repr escapes: one character may take ten
    return "null" if received is None else type(received).__name__
