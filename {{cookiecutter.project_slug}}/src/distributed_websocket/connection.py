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
from .message import TYPES, Message, Ref, decode, encode, reference
from .metrics import LIMITS_HIT, count_refusal

if TYPE_CHECKING:
    from .manager import WebSocketManager

CLOSE_SECONDS = 5.0
DEFAULT_LIMITS = Limits()
_LOST = 1006  # RFC 6455 §7.1.5; never in a frame
_TOO_MANY = LIMITS_HIT.labels("messages_per_second")


class Connection:
    """Wraps a `WebSocket`. What is written is sent in order, never waits for the client, and is bounded.

    `user` is who it is, by the server's word; `None` for an anonymous one.
    """

    __slots__ = (
        "__weakref__",
        "_bucket",
        "closed_with",
        "expiry",
        "id",
        "limits",
        "manager",
        "opened_at",
        "outbox",
        "raw",
        "received",
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
        self.opened_at = time.monotonic()
        self.received = 0
        """Frames from the client."""
        self.closed_with: int | None = None
        """The code that `close` was called with, or that the client's end came with over ASGI."""
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
        if self.closed_with is None:
            self.closed_with = int(code)
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
                code = event.get("code", 1005)
                if self.closed_with is None:
                    self.closed_with = code
                raise WebSocketDisconnect(code, event.get("reason"))
            fields = self.read(event.get("text"))
            if fields is not None:
                return fields

    def read(self, text: str | None) -> dict[str, Any] | None:
        """The JSON object in a frame's text (`None`: a binary frame). What may not pass is answered with an `error`."""
        fields: dict[str, Any] | None = None
        self.received += 1
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
            _TOO_MANY.inc()
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
        """The next valid message, of the service's own types too. An invalid one gets an `error` and is passed over."""
        while True:
            try:
                fields = await self.receive_json()
            except WebSocketDisconnect:
                raise StopAsyncIteration from None
            try:
                types = TYPES if self.manager is None else self.manager.requests.types
                return Message.from_client_message(data=fields, max_topic_bytes=self.limits.topic_bytes, types=types)
            except WebSocketException as exc:
                self.send_error(exc, reference(fields))

    @property
    def end_code(self) -> int:
        """The close code of whoever closed first, known once the connection has ended; 1006 for one that was lost."""
        if self.outbox.end_code is not None:
            return int(self.outbox.end_code)
        if self.closed_with is not None:
            return self.closed_with
        return _LOST if self.raw is None else self.raw.end_code

    def write_json(self, data: Any) -> None:
        """Send a JSON message without waiting."""
        self.outbox.write(Bundle((encode(data),)))

    async def send_json(self, data: Any) -> None:
        """Send a JSON message and wait until the server has it and everything before it."""
        self.write_json(data)
        await self.outbox.flushed()

    def send_error(self, exc: WebSocketException, ref: Ref | None = None) -> None:
        """Tell the client what was wrong. `ref` is the one of the message that it is about, where there was one."""
        count_refusal(exc.code)
        self.write_json({"type": "error", "code": exc.code, "detail": exc.message, "ref": ref})

    def __repr__(self) -> str:
        return f"<Connection {self.id} user={self.user!r} topics={len(self.topics)}>"
