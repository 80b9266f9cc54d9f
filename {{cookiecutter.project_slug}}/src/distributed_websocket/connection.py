"""`Connection`: one client, what it subscribed to, and its way out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from fastapi import WebSocket, WebSocketDisconnect

from .codes import CloseCode, ErrorCode
from .delivery import Bundle, Outbox, open_outbox, raw_socket
from .exceptions import InvalidMessage, LimitExceeded, WebSocketException
from .expiry import Expiry
from .limits import Limits, TokenBucket
from .message import Message, Ref, decode, encode, reference
from .metrics import REFUSED

if TYPE_CHECKING:
    from .manager import WebSocketManager

CLOSE_SECONDS = 5.0
DEFAULT_LIMITS = Limits()


class Connection:
    """Wraps a `WebSocket`. What is written is sent in order, never waits for the client, and is bounded.

    `user` is who it is, by the server's word; `None` for an anonymous one.
    """

    __slots__ = (
        "__weakref__",
        "_bucket",
        "expiry",
        "id",
        "limits",
        "manager",
        "outbox",
        "raw",
        "topics",
        "user",
        "websocket",
    )

    def __init__(
        self,
        websocket: WebSocket,
        conn_id: str,
        topic: str | None = None,
        *,
        user: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.websocket = websocket
        self.id = conn_id
        self.topics: set[str] = {topic} if topic else set()
        self.user = user
        self.limits = limits
        self.raw = raw_socket(websocket)
        self.outbox: Outbox = open_outbox(websocket, limits.unsent_bytes)
        self.expiry: Expiry | None = None
        self.manager: WebSocketManager | None = None
        """Set while the connection is one of a manager's: what it subscribes to is delivered by it."""
        rate = limits.messages_per_second
        self._bucket = None if rate is None else TokenBucket(rate, limits.message_burst, time.monotonic())

    async def accept(
        self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Accept the connection."""
        await self.websocket.accept(subprotocol, headers)

    async def close(self, code: int = CloseCode.NORMAL, reason: str | None = None) -> None:
        """Send what was written, then close. A client that does not take it in time is not waited for."""
        if reason is None and isinstance(code, CloseCode):
            reason = code.reason
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.outbox.flushed()
                await self.websocket.close(int(code), reason)
        except TimeoutError:
            self.outbox.end(CloseCode.SLOW)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass  # it is closed already; the other end may also be faster

    async def receive_json(self) -> Any:
        """The next JSON object from the client. What is none gets an `error` and is passed over.

        Raises `WebSocketDisconnect` when the client is gone.
        """
        while True:
            event = await self.websocket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event.get("code", 1005), event.get("reason"))
            fields = self.read(event.get("text"))
            if fields is not None:
                return fields

    def read(self, text: str | None) -> dict[str, Any] | None:
        """The JSON object in a frame's text (`None`: a binary frame). What may not pass is answered with an `error`."""
        fields: dict[str, Any] | None = None
        try:
            if text is None:
                raise InvalidMessage("messages are text frames", code=ErrorCode.MALFORMED_JSON)
            if len(text) > self.limits.message_bytes:
                raise LimitExceeded(
                    f"the message has {len(text)} characters, at most {self.limits.message_bytes} are taken",
                    code=ErrorCode.TOO_LARGE,
                )
            fields = decode(text)
        except WebSocketException as exc:
            self.send_error(exc)
        # What cannot be read counts too, or it would be the cheapest way to keep a worker busy.
        if self._bucket is not None and not self._bucket.take(time.monotonic()):
            if fields is not None:
                rate = self.limits.messages_per_second
                self.send_error(LimitExceeded(f"at most {rate:g} messages a second are taken"), reference(fields))
            return None
        return fields

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
                return Message.from_client_message(data=fields, max_topic_bytes=self.limits.topic_bytes)
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
        REFUSED.labels(exc.code).inc()
        self.write_json({"type": "error", "code": exc.code, "detail": exc.message, "ref": ref})

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r} topics={len(self.topics)}>"
