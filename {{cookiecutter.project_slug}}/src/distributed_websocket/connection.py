"""`Connection`: one client, what it subscribed to, and its way out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from fastapi import WebSocket, WebSocketDisconnect

from .codes import CloseCode, ErrorCode
from .delivery import Bundle, Outbox, open_outbox
from .exceptions import InvalidMessage, WebSocketException
from .message import Message, Ref, decode, encode, reference

if TYPE_CHECKING:
    from .manager import WebSocketManager

MAX_UNSENT_BYTES = 1024 * 1024
CLOSE_SECONDS = 5.0


class Connection:
    """Wraps a `WebSocket`. What is written is sent in order, never waits for the client, and is bounded.

    `user` is who it is, by the server's word; `None` for an anonymous one. `max_unsent_bytes` is how much the client's
    socket may leave untaken before the connection is ended with `CloseCode.SLOW`.
    """

    __slots__ = ("__weakref__", "id", "manager", "max_unsent_bytes", "outbox", "topics", "user", "websocket")

    def __init__(
        self,
        websocket: WebSocket,
        conn_id: str,
        topic: str | None = None,
        *,
        user: str | None = None,
        max_unsent_bytes: int = MAX_UNSENT_BYTES,
    ) -> None:
        self.websocket = websocket
        self.id = conn_id
        self.topics: set[str] = {topic} if topic else set()
        self.user = user
        self.outbox: Outbox = open_outbox(websocket, max_unsent_bytes)
        self.manager: WebSocketManager | None = None
        """Set while the connection is one of a manager's: what it subscribes to is delivered by it."""

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Accept the connection."""
        await self.websocket.accept(subprotocol, headers)

    async def close(self, code: int = CloseCode.NORMAL, reason: str | None = None) -> None:
        """Send what was written, then close. A client that does not take it in time is not waited for."""
        if reason is None and isinstance(code, CloseCode):
            reason = code.reason
        # RuntimeError: it is closed already; the other end may also be faster.
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError, OSError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.outbox.flushed()
                await self.websocket.close(int(code), reason)

    async def receive_json(self) -> Any:
        """The next JSON object from the client. What is none gets an `error` and is passed over.

        Raises `WebSocketDisconnect` when the client is gone.
        """
        while True:
            event = await self.websocket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event.get("code", 1005), event.get("reason"))
            text = event.get("text")
            try:
                if text is None:
                    raise InvalidMessage("messages are text frames", code=ErrorCode.MALFORMED_JSON, received=event)
                return decode(text)
            except InvalidMessage as exc:
                self.send_error(exc)

    async def iter_json(self) -> AsyncIterator[Any]:
        """The client's JSON objects until it is gone. Ends with the connection, raises nothing for it."""
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                yield await self.receive_json()

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> Message:
        """The next valid message. An invalid one gets an `error` and is passed over."""
        while True:
            try:
                fields = await self.receive_json()
            except WebSocketDisconnect:
                raise StopAsyncIteration from None
            try:
                return Message.from_client_message(data=fields)
            except WebSocketException as exc:
                self.send_error(exc, reference(fields))

    def write_json(self, data: Any) -> None:
        """Send a JSON message without waiting."""
        self.outbox.write(Bundle((encode(data),)))

    async def send_json(self, data: Any) -> None:
        """Send a JSON message and wait until the server has it and everything before it."""
        self.write_json(data)
        await self.outbox.flushed()

    def send_error(self, exc: WebSocketException, ref: Ref | None = None) -> None:
        """Tell the client what was wrong. `ref` is the one of the message that it is about, where there was one."""
        self.write_json({"type": "error", "code": exc.code, "detail": exc.message, "ref": ref})

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r} topics={len(self.topics)}>"
