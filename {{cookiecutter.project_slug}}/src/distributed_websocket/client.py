"""`Client`: connects, comes back by itself, and misses nothing or says so. For services, tests and load tests on asyncio.

    async with Client(url, token=fresh_token) as client:
        room = await client.subscribe("room/1")
        await client.send("room/1", "hello")
        async for message in room:
            print(message["from"], message["data"])

I/O and time are here; what is said, and what an answer means, is `ClientSession`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from enum import StrEnum
from http import HTTPStatus
from itertools import count
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from .auth import SUBPROTOCOL, InvalidToken
from .backoff import delays
from .client_events import (
    DIRECT,
    Answered,
    CaughtUp,
    Delivered,
    Drain,
    Event,
    Fields,
    Hole,
    Postponed,
    Refused,
    Subscribed,
    TokenExpired,
    Welcomed,
)
from .client_session import ClientSession, may_repeat_handshake
from .client_stream import Item, Stream
from .codes import ErrorCode, may_reconnect
from .exceptions import WebSocketException

logger = logging.getLogger(__name__)

OPEN_SECONDS: Final = 10.0
"""How long a handshake may take."""

CLOSE_SECONDS: Final = 1.0
"""How long the server may take to answer a close frame."""

LASTING_SECONDS: Final = 2.0
"""A connection that lasted so long starts the backoff anew. One that is accepted and closed at once does not."""

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""A page of history is one message."""

LOST: Final = 1006
"""Ended without a close frame (RFC 6455 §7.4.1)."""


class State(StrEnum):
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class ConnectionEnded(WebSocketException):
    """The client is closed and does not come back.

    `close_code` is why the server closed it, `status` why it refused the handshake; both None when neither did.
    """

    def __init__(self, message: str, *, close_code: int | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.status = status


class RequestRefused(WebSocketException):
    """The server answered a request with an error that trying again does not mend; `code` says which."""

    def __init__(self, code: str, detail: str) -> None:
        known = ErrorCode(code) if code in set(ErrorCode) else ErrorCode.INTERNAL_ERROR
        super().__init__(f"{code}: {detail}", code=known)


class Page(NamedTuple):
    """A part of a topic's history, oldest message first; whether there are older ones."""

    messages: list[Fields]
    more: bool


class Members(NamedTuple):
    """Who is in a topic; `total` is how many, where `members` does not hold all."""

    members: list[Fields]
    total: int


class Client:
    """One client of the service, over any number of connections. Iterating gives the messages of all subscriptions.

    `token` is a bearer token, or gives a fresh one for each handshake and when the server says that one has expired. It
    raises `InvalidToken` when there will be none, which ends the client; whatever else it raises is tried again.

    `on_state` is told each change of `state`. `on_hole` is called with the topic between two messages of an iteration
    between which others are missing, and `on_caught_up` with the number of messages that came since a reconnect, once
    all that was missed is there. A subscription that has `max_waiting` messages waiting is paused at the server, and
    goes on from there when half of them were taken. `heartbeat_seconds` is how often a silent connection is tried, and
    how long it may take to answer. `backoff` gives the seconds to wait before each new try.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], Awaitable[str]] | None = None,
        on_state: Callable[[State], None] | None = None,
        on_hole: Callable[[str], None] | None = None,
        on_caught_up: Callable[[int], None] | None = None,
        max_waiting: int = 1_000,
        heartbeat_seconds: float = 20.0,
        backoff: Callable[[], Iterator[float]] = delays,
    ) -> None:
        self.state = State.CONNECTING
        self.welcome: Fields = {}
        """What the server said on the newest connection: `conn_id`, `worker`, `user`."""
        self._url = url
        self._token = token
        self._on_state = on_state
        self._on_hole = on_hole
        self._on_caught_up = on_caught_up
        self._max_waiting = max_waiting
        self._heartbeat_seconds = heartbeat_seconds
        self._backoff = backoff
        self._session = ClientSession()
        self._streams: dict[str, Stream] = {}
        self._direct = self._stream(DIRECT, keep=max_waiting)
        self._answers: dict[str, asyncio.Future[Fields]] = {}
        self._beginnings: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._error: ConnectionEnded | None = None
        self._arrivals = count()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._unauthorized = False
        # Of the connection that there is:
        self._to_send = asyncio.Event()
        self._stay = asyncio.timeout(None)
        self._overflowed = False
        self._tasks: dict[Callable[..., object], asyncio.Task[None]] = {}

    # Life

    async def connect(self) -> None:
        """Return when connected, however long that takes. Raises `ConnectionEnded`, as everything else here does."""
        self._task = asyncio.create_task(self._run(), name="client")
        while self.state is State.CONNECTING:
            await self._change()
        self._raise_if_ended()

    async def close(self) -> None:
        """Close the connection. Iterations end when they have given what came until now."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        else:
            self._end(None)

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # Requests

    async def send(self, topic: str, data: Any) -> str | None:
        """Publish `data` to a topic, and return the message's position once it is stored; None where nothing is.

        It is repeated until there is an answer, and stored once, if the connection has a user. Whoever needs an order
        between two messages awaits the first. Raises `RequestRefused`; `TypeError` for data that JSON cannot say.
        """
        self._raise_if_ended()
        position: str | None = (await self._answer(self._session.send(topic, data))).get("id")
        return position

    async def history(self, topic: str, *, limit: int = 50, before: str | None = None) -> Page:
        """The newest messages of a topic, or the newest of those before a position. Raises `RequestRefused`."""
        self._raise_if_ended()
        answer = await self._answer(self._session.history(topic, limit, before))
        return Page(answer["messages"], answer["more"])

    async def presence(self, topic: str) -> Members:
        """Who is in a topic now. Raises `RequestRefused`."""
        self._raise_if_ended()
        answer = await self._answer(self._session.presence(topic))
        return Members(answer["members"], answer["total"])

    async def subscribe(self, topic: str) -> Stream:
        """The messages of a topic or pattern from now on.

        A message that two patterns match comes once for each (as MQTT 5 §3.3.4 has it). Raises `RequestRefused`;
        `ValueError` when subscribed to this very topic or pattern already.
        """
        self._raise_if_ended()
        self._session.subscribe(topic)
        stream = self._streams[topic] = self._stream(topic)
        began = self._beginnings[topic] = asyncio.get_running_loop().create_future()
        self._to_send.set()
        try:
            await began
        except BaseException:
            self.unsubscribe(topic)
            raise
        return stream

    def unsubscribe(self, topic: str) -> None:
        """Its iteration ends when it has given what came until now."""
        stream = self._streams.pop(topic, None)
        if stream is not None:
            stream.end()
            self._session.unsubscribe(topic)
            self._to_send.set()

    async def _answer(self, ref: str) -> Fields:
        answer = self._answers[ref] = asyncio.get_running_loop().create_future()
        self._to_send.set()
        try:
            return await answer
        finally:
            del self._answers[ref]
            self._session.forget(ref)

    def _raise_if_ended(self) -> None:
        if self.state is State.CLOSED:
            raise self._error or ConnectionEnded("the client was closed")

    # Messages

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Fields:
        """The message that came first of those that wait for any subscription, for this connection or for everybody."""
        while True:
            waiting = [stream for stream in (*self._streams.values(), self._direct) if len(stream)]
            if waiting:
                message = min(waiting, key=lambda stream: stream.oldest).take()
                if message is not None:
                    return message
            elif self.state is State.CLOSED:
                raise StopAsyncIteration
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _stream(self, topic: str, keep: int | None = None) -> Stream:
        return Stream(topic, on_taken=self._taken, on_hole=self._on_hole, keep=keep)

    def _put(self, stream: Stream | None, item: Item) -> None:
        if stream is None:
            return
        stream.put(next(self._arrivals), item)
        self._arrived.set()
        if stream.topic != DIRECT and len(stream) >= self._max_waiting:
            if not stream.paused:
                stream.paused = True
                self._session.pause(stream.topic)
            self._overflowed |= len(stream) >= OVERFLOW * self._max_waiting

    def _taken(self, stream: Stream) -> None:
        if stream.paused and len(stream) <= self._max_waiting // 2 and stream is self._streams.get(stream.topic):
            stream.paused = False
            self._session.resume(stream.topic)
            self._to_send.set()

    # Connections

    async def _run(self) -> None:
        error: ConnectionEnded | None = None
        try:
            wait = self._backoff()
            while True:
                websocket = await self._open()
                if websocket is not None:
                    opened = asyncio.get_running_loop().time()
                    at_once = await self._talk(websocket)
                    self._set_state(State.RECONNECTING)
                    if at_once or asyncio.get_running_loop().time() - opened > LASTING_SECONDS:
                        wait = self._backoff()
                    if at_once:
                        continue
                await asyncio.sleep(next(wait))
        except ConnectionEnded as exc:
            error = exc
        except Exception as exc:
            logger.exception("the client failed in an unforeseen way")
            error = ConnectionEnded(f"unforeseen: {exc!r}")
            error.__cause__ = exc
        finally:
            self._end(error)

    async def _open(self) -> ClientConnection | None:
        """A new connection, or None when it is worth another try. Raises `ConnectionEnded` when it is not."""
        try:
            token = await self._token() if callable(self._token) else self._token
        except InvalidToken as exc:
            raise ConnectionEnded(f"there is no token: {exc}") from exc
        except Exception as exc:
            logger.warning("no fresh token: %r; trying again", exc)
            return None
        try:
            return await connect(
                self._url,
                additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                proxy=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=self._heartbeat_seconds,
                ping_timeout=self._heartbeat_seconds,
                max_size=MAX_MESSAGE_BYTES,
            )
        except InvalidStatus as exc:
            self._judge(exc.response.status_code, (exc.response.body or b"")[:200].decode(errors="replace"))
        except (OSError, TimeoutError, InvalidHandshake) as exc:
            logger.info("cannot connect: %r; trying again", exc)
        return None

    def _judge(self, status: int, body: str) -> None:
        """Raise `ConnectionEnded` when a handshake refused with this status would be refused again."""
        expired = status == HTTPStatus.UNAUTHORIZED and callable(self._token) and not self._unauthorized
        self._unauthorized = status == HTTPStatus.UNAUTHORIZED
        if not (expired or may_repeat_handshake(status)):
            raise ConnectionEnded(f"the handshake was refused with {status}: {body}", status=status)
        logger.info("the handshake was refused with %d: %s; trying again", status, body)

    async def _talk(self, websocket: ClientConnection) -> bool:
        """Use a connection to its end. Whether to come back at once; raises `ConnectionEnded` if not at all."""
        self._unauthorized = False
        self._overflowed = False
        self._session.connected()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._start(self._write(websocket))
                end = await self._read(websocket)
                for task in self._tasks:
                    task.cancel()
        finally:
            self._session.disconnected()
            await websocket.close()
        if isinstance(end, ConnectionEnded):
            raise end
        return end
