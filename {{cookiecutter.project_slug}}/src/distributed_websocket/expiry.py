"""`Expiry`: the end of a connection's token. It is told, may send a fresh one, and is closed after a grace period."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from .codes import CloseCode

if TYPE_CHECKING:
    from .connection import Connection


class Expiry:
    """Watches one token, which is good until `expires_at` (Unix time in seconds)."""

    __slots__ = ("_connection", "_grace_seconds", "_timer", "expires_at")

    def __init__(self, connection: Connection, expires_at: float, grace_seconds: float) -> None:
        self._connection = connection
        self._grace_seconds = grace_seconds
        self._timer: asyncio.TimerHandle | None = None
        self.renew(expires_at)

    def renew(self, expires_at: float) -> None:
        """A fresh token came."""
        self.cancel()
        self.expires_at = expires_at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, expires_at - time.time()), self._tell)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self._connection.write_json(
            {"type": "token_expired", "expires_at": self.expires_at, "grace_seconds": self._grace_seconds}
        )
        self._timer = asyncio.get_running_loop().call_later(self._grace_seconds, self._end)

    def _end(self) -> None:
        self._timer = None
        self._connection.outbox.end(CloseCode.TOKEN_EXPIRED)
