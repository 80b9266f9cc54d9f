"""`Limits`: how much one client, one user and one worker may take. `None` switches a limit off."""

from __future__ import annotations

from dataclasses import dataclass

from .topics import MAX_TOPIC_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What happens beyond each limit is said with it; the client may go on after an `error`."""

    message_bytes: int = 64 * 1024
    """One message from a client, in characters of its text: `too_large`. A server's own limit, in bytes, should be
    this one too; it closes with 1009 before the message is in memory."""

    messages_per_second: float | None = 50.0
    """From one connection, on average: `rate_limited`."""

    message_burst: int = 100
    """Messages that one connection may send at once."""

    subscriptions: int = 100
    """Topics and patterns of one connection: `too_many_subscriptions`."""

    topic_bytes: int = MAX_TOPIC_BYTES
    """A topic or pattern in UTF-8: `invalid_topic`."""

    connections_per_user: int | None = 20
    """Of one user on one worker: the handshake ends with 429."""

    connections: int | None = 20_000
    """Of all on one worker: the handshake ends with 503."""

    unsent_bytes: int = 1024 * 1024
    """What one client's socket may leave untaken: closed with 4001, "reconnect and resume"."""

    waiting_bytes: int = 8 * 1024 * 1024
    """What one worker has accepted and the log has not stored yet: `overloaded`."""

    token_grace_seconds: float = 30.0
    """From the notice that a token has expired until the connection is closed with 4002."""


class TokenBucket:
    """Allows `rate` a second on average, and `burst` at once."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Take one at time `now` (seconds of a monotonic clock). False when there is none."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
