"""The life of a connection between accept and end, on either path: a task that receives over ASGI, or no task at all.

Under `RawWebSocketProtocol` the manager is called for each frame and the endpoint's task ends with the handshake, which
saves its stack and its wake-ups: a third of an idle connection's memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from .codes import CloseCode
from .connection import Connection
from .delivery import RawSocket

if TYPE_CHECKING:
    from .manager import WebSocketManager

logger = logging.getLogger(__name__)


async def serve(manager: WebSocketManager, connection: Connection) -> None:
    """Do what the client asks for until it is gone. Returns then, or at once where no task is needed to wait for it."""
    raw = connection.raw
    if raw is not None:
        raw.hand_over(Session(manager, connection, raw))
        return
    try:
        async for fields in connection.iter_json():
            await manager.receive(connection, fields)
    finally:
        manager.remove_connection(connection)


class Session:
    """Called by the protocol for each message. One that needs waiting holds back the next ones of its client only."""

    __slots__ = ("_connection", "_held_back", "_manager", "_raw", "_waiting")

    def __init__(self, manager: WebSocketManager, connection: Connection, raw: RawSocket) -> None:
        self._manager = manager
        self._connection = connection
        self._raw = raw
        self._waiting: asyncio.Task[None] | None = None
        self._held_back: deque[str | None] | None = None

    def on_message(self, text: str | None) -> None:
        """A text message, or `None` for a binary one."""
        if self._waiting is not None:
            if self._held_back is None:
                self._held_back = deque()
                self._raw.pause_reading()
            self._held_back.append(text)
            return
        try:
            fields = self._connection.read(text)
            if fields is not None:
                rest = self._manager.requests.begin(self._connection, fields)
                if rest is not None:
                    self._waiting = asyncio.create_task(self._wait(rest))
        except Exception:
            self._fail()

    async def _wait(self, rest: Coroutine[Any, Any, None]) -> None:
        try:
            await rest
            while self._held_back:
                fields = self._connection.read(self._held_back.popleft())
                if fields is not None:
                    await self._manager.receive(self._connection, fields)
        except Exception:
            self._fail()
        finally:
            self._waiting = None
            if self._held_back is not None:
                self._held_back = None
                self._raw.resume_reading()

    def _fail(self) -> None:
        logger.exception("a request of connection %s failed in an unforeseen way", self._connection.id)
        self._connection.outbox.end(CloseCode.INTERNAL_ERROR)

    def on_closed(self) -> None:
        """The connection is closed, or its client gone."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._manager.remove_connection(self._connection)
