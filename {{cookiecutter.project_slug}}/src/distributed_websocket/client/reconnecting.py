"""`Client`: connects, comes back by itself, and misses nothing or says so. On asyncio.

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
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import count
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar, assert_never

from ..backoff import delays
from .errors import ConnectionEnded, RequestRefused
from .events import (
    DIRECT,
    Answered,
    CaughtUp,
    Delivered,
    Fields,
    Hole,
    Refused,
    Subscribed,
    SubscriberEvent,
    Welcomed,
)
from .handshake import Handshake, Token
from .link import Link
from .session import ClientSession
from .stream import Item, Stream

logger = logging.getLogger(__name__)

OVERFLOW: Final = 10
"""How many times `max_waiting` may come for a paused subscription before the connection is given up for it."""

CLOSED_BY_CALLER: Final = "the client was closed"

T = TypeVar("T")


class State(StrEnum):
    CONNECTING = "connecting"
    OPEN = "open"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


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
        token: Token | None = None,
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
        self._on_state = on_state
        self._on_hole = on_hole
        self._on_caught_up = on_caught_up
        self._max_waiting = max_waiting
        self._session = ClientSession()
        self._link = Link(
            self._session,
            Handshake(url, token, heartbeat_seconds),
            token,
            backoff,
            on_event=self._handle,
            on_lost=self._lost,
        )
        self._streams: dict[str, Stream] = {}
        self._direct = self._stream(DIRECT, keep=max_waiting)
        self._answers: dict[str, asyncio.Future[Fields]] = {}
        self._beginnings: dict[str, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._error: ConnectionEnded | None = None
        self._arrivals = count()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()

    # Life

    async def connect(self) -> None:
        """Return when connected, however long that takes. Raises `ConnectionEnded`, as everything else here does."""
        self._task = asyncio.create_task(self._run(), name="client")
        while self.state is State.CONNECTING:
            self._changed.clear()
            await self._changed.wait()
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

    def send_ephemeral(self, topic: str, data: Any) -> None:
        """Publish `data` to those who are there now. It is not stored, and may be lost."""
        self._raise_if_ended()
        self._session.send_ephemeral(topic, data)
        self._link.flush()

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
        self._link.flush()
        try:
            await began
        except BaseException:
            if self._streams.get(topic) is stream:  # else somebody unsubscribed, and perhaps subscribed anew
                self.unsubscribe(topic)
            raise
        return stream

    def unsubscribe(self, topic: str) -> None:
        """Its iteration ends when it has given what came until now."""
        stream = self._streams.pop(topic, None)
        if stream is not None:
            _settle(self._beginnings.pop(topic, None), None)
            stream.end()
            self._session.unsubscribe(topic)
            self._link.flush()

    async def _answer(self, ref: str) -> Fields:
        answer: asyncio.Future[Fields] = asyncio.get_running_loop().create_future()
        self._answers[ref] = answer
        self._link.flush()
        try:
            return await answer
        finally:
            del self._answers[ref]
            self._session.forget(ref)

    def _raise_if_ended(self) -> None:
        if self.state is State.CLOSED:
            raise self._error or ConnectionEnded(CLOSED_BY_CALLER)

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

    def _put(self, stream: Stream, item: Item) -> None:
        stream.put(next(self._arrivals), item)
        self._arrived.set()

    def _deliver(self, topic: str, message: Fields) -> None:
        if topic == DIRECT:
            self._put(self._direct, message)
            return
        stream = self._streams[topic]
        self._put(stream, message)
        if len(stream) >= self._max_waiting and not stream.paused:
            stream.paused = True
            self._session.pause(topic)
        elif len(stream) == OVERFLOW * self._max_waiting:
            self._link.leave()

    def _taken(self, stream: Stream) -> None:
        if stream.paused and len(stream) <= self._max_waiting // 2 and stream is self._streams.get(stream.topic):
            stream.paused = False
            self._session.resume(stream.topic)
            self._link.flush()

    # What comes from the link

    async def _run(self) -> None:
        error: ConnectionEnded | None = None
        try:
            await self._link.run()
        except ConnectionEnded as exc:
            error = exc
        except Exception as exc:
            logger.exception("the client failed in an unforeseen way")
            error = ConnectionEnded(f"unforeseen: {exc!r}")
            error.__cause__ = exc
        finally:
            self._end(error)

    def _handle(self, event: SubscriberEvent) -> None:
        match event:
            case Delivered(topic, message):
                self._deliver(topic, message)
            case Hole(topic):
                self._put(self._streams[topic], event)
            case Subscribed(topic):
                _settle(self._beginnings.pop(topic, None), None)
            case Answered(ref, answer):
                _settle(self._answers.get(ref), answer)
            case Refused(ref, topic, code, detail):
                self._refuse(ref, topic, RequestRefused(code, detail))
            case Welcomed(welcome):
                self.welcome = welcome
                self._set_state(State.OPEN)
            case CaughtUp(messages):
                if self._on_caught_up is not None:
                    self._on_caught_up(messages)
            case _:
                assert_never(event)

    def _lost(self) -> None:
        if self.state is State.OPEN:
            self._set_state(State.RECONNECTING)

    def _refuse(self, ref: object, topic: str | None, refusal: RequestRefused) -> None:
        waiting: asyncio.Future[Any] | None = None
        if topic is not None:
            waiting = self._beginnings.pop(topic, None)
            stream = self._streams.pop(topic)
            if waiting is None:  # it lived, on an earlier connection: its iteration ends by this, and the client's too
                self._put(stream, refusal)
                self._put(self._direct, refusal)
            stream.end()
        elif isinstance(ref, str):
            waiting = self._answers.get(ref)
        if waiting is not None and not waiting.done():
            waiting.set_exception(refusal)
        else:
            logger.warning("the server refused what nobody waits for: %s", refusal)

    # Ends and changes

    def _end(self, error: ConnectionEnded | None) -> None:
        self._error = error
        unanswered: list[asyncio.Future[Any]] = [*self._answers.values(), *self._beginnings.values()]
        for waiting in unanswered:
            if not waiting.done():
                waiting.set_exception(error or ConnectionEnded(CLOSED_BY_CALLER))
        for stream in (*self._streams.values(), self._direct):
            if error is not None:
                self._put(stream, error)
            stream.end()
        self._arrived.set()
        self._set_state(State.CLOSED)

    def _set_state(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self._changed.set()
            if self._on_state is not None:
                self._on_state(state)


def _settle(waiting: asyncio.Future[T] | None, result: T) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(result)
