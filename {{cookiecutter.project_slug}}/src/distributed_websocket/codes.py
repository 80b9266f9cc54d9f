"""What the server says when it refuses: error codes (the connection stays) and close codes (it ends).

A leaf: it imports nothing of the library. Codes are listed here once; `message.py` re-exports them.
"""

from enum import IntEnum, StrEnum


class ErrorCode(StrEnum):
    """The `code` of an `error` message. The connection that gets one stays open."""

    MALFORMED_JSON = "malformed_json"  # not JSON, not text, or nested too deeply to read
    INVALID_MESSAGE = "invalid_message"  # JSON, but a field is missing or of the wrong type
    UNKNOWN_TYPE = "unknown_type"
    INVALID_TOPIC = "invalid_topic"  # not a topic or pattern (MQTT 5 §4.7), or a pattern where a topic is needed
    NOT_ALLOWED = "not_allowed"  # the policy says no
    INVALID_TOKEN = "invalid_token"  # a fresh token was sent, and it is not good
    TOKEN_EXPIRED = "token_expired"  # send a fresh one before the grace period ends
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    OVERLOADED = "overloaded"  # this worker has too much to do: try again later
    UNAVAILABLE = "unavailable"  # the broker did not take it: nothing was stored
    INTERNAL_ERROR = "internal_error"  # a fault of the server's


# Standard codes after which coming back the same way would end the same way (RFC 6455 §7.4.1): normal closure,
# protocol error, unsupported data, invalid payload, policy violation, message too big, mandatory extension.
_TERMINAL = frozenset({1000, 1002, 1003, 1007, 1008, 1009, 1010})


def may_reconnect(code: int) -> bool:
    """Whether a client that was closed with `code` should come back, with jitter.

    4000 to 4499 say "come back" and 4500 to 4999 "do not" (Centrifugo's rule), so that a client obeys codes that are
    younger than itself. Of the standard codes, the lost connection (1006), the fault of a server (1011) and the
    like are worth another try.
    """
    return code not in _TERMINAL and not 4500 <= code <= 4999


class CloseCode(IntEnum):
    """Every close code that the server sends, with the reason that goes into the close frame."""

    reason: str

    def __new__(cls, code: int, reason: str = "") -> "CloseCode":
        member = int.__new__(cls, code)
        member._value_ = code
        member.reason = reason
        return member

    # Standard (RFC 6455 §7.4.1 and the IANA registry of WebSocket close codes).
    NORMAL = 1000
    GOING_AWAY = 1001, "going away"
    POLICY_VIOLATION = 1008, "not allowed"
    MESSAGE_TOO_BIG = 1009, "message too big"
    INTERNAL_ERROR = 1011, "internal error"
    DRAIN = 1012, "restarting, come back"  # "service restart"
    OVERLOAD = 1013, "overloaded, come back later"  # "try again later"

    # 4000 to 4499: come back.
    SLOW = 4001, "too slow, reconnect and resume"  # its unsent bytes passed their bound
    TOKEN_EXPIRED = 4002, "token expired, come back with a fresh one"  # without one, the handshake ends in a 401

    # 4500 to 4999: do not come back.
    # For policies that end the older connections; without them, one too many is refused in the handshake. Terminal, or
    # a user's tabs would evict each other.
    CONNECTION_LIMIT = 4500, "too many connections of this user"

    @property
    def reconnect(self) -> bool:
        """Whether the client should come back (`may_reconnect`)."""
        return may_reconnect(self)
