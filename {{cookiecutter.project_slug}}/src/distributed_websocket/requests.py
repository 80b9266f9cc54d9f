"""What clients may ask for: one method for each type of message, found in a table, never by the client's word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from .brokers.interface import Entry
from .codes import CloseCode, ErrorCode
from .connection import Connection
from .delivery import Bundle
from .exceptions import BrokerError, InvalidMessage, LimitExceeded, NotAllowed, WebSocketException, quote
from .message import SERVER_TYPES, TYPES, Message, encode, reference
from .metrics import RECEIVED, RECOVERIES
from .positions import parse_position
from .reading import ShardReader
from .recovery import Since, concerns, reaches_back
from .subscriptions import subscribe, unsubscribe

if TYPE_CHECKING:
    from .manager import WebSocketManager

HISTORY: Final = 50
"""Messages in one page of a topic's history, unless the client says how many."""

MAX_HISTORY: Final = 200

PAGE: Final = 1_000
"""Entries of the log read at once for somebody who resumes."""

CATCH_UP_SECONDS: Final = 2.0
"""How long a client waits that has seen more than this worker."""

PIECE_BYTES: Final = 256 * 1024
"""What is sent at once to somebody who resumes, before it is waited for that most of it was taken."""

_RECEIVED: Final = {kind: RECEIVED.labels(kind) for kind in TYPES}

Handler = Callable[[Connection, Message], Coroutine[Any, Any, None] | None]


class Requests:
    """Handles the messages of a manager's clients."""

    def __init__(self, manager: WebSocketManager) -> None:
        self._manager = manager
        self._handlers: dict[str, Handler] = {
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "send": self._send,
            "broadcast": self._broadcast,
            "send_by_conn_id": self._send_by_conn_id,
            "history": self._history,
            "presence": self._presence,
            "authenticate": self._authenticate,
        }

    @property
    def types(self) -> Collection[str]:
        """What clients may send: the library's types, and the service's own."""
        return self._handlers.keys()

    def add(self, kind: str, handler: Handler) -> None:
        if kind in self._handlers:
            raise ValueError(f"messages of type {kind!r} are handled already")
        if kind in SERVER_TYPES:
            raise ValueError(f"messages of type {kind!r} are the server's own, no client may send them")
        self._handlers[kind] = handler
        _RECEIVED[kind] = RECEIVED.labels(kind)

    def begin(self, connection: Connection, message: Any) -> Coroutine[Any, Any, None] | None:
        """Do what a message asks for. What cannot be done without waiting is returned, for the caller to await.

        What is wrong with a message goes to its sender as an `error`.
        """
        try:
            if not isinstance(message, Message):
                message = Message.from_client_message(
                    data=message, max_topic_bytes=connection.limits.topic_bytes, types=self._handlers
                )
            handler = self._handlers.get(message.type)
            if handler is None:
                raise InvalidMessage(f"this service does not take messages of type {quote(message.type)}")
            _RECEIVED[message.type].inc()
            waiting = handler(connection, message)
        except WebSocketException as exc:
            _refuse(connection, message, exc)
            return None
        return None if waiting is None else self._finish(connection, message, waiting)

    async def _finish(self, connection: Connection, message: Message, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            await waiting
        except WebSocketException as exc:
            _refuse(connection, message, exc)

    def _send(self, connection: Connection, message: Message) -> None:
        if not self._manager.policy.may_publish(connection, message.topic or ""):
            raise NotAllowed(f"you may not publish on {quote(message.topic)}", connection=connection, received=message)
        self._manager.submit(message, connection, message.ref)

    def _broadcast(self, connection: Connection, message: Message) -> None:
        if not self._manager.policy.may_broadcast(connection):
            raise NotAllowed("you may not broadcast", connection=connection, received=message)
        self._manager.submit(message, connection, message.ref)

    def _send_by_conn_id(self, connection: Connection, message: Message) -> None:
        if not self._manager.policy.may_address(connection, message.conn_ids):
            raise NotAllowed("you may not address connections", connection=connection, received=message)
        self._manager.submit(message, connection, message.ref)

    def _unsubscribe(self, connection: Connection, message: Message) -> None:
        unsubscribe(connection, message)
        self._answer(connection, message, "unsubscribed")

    def _authenticate(self, connection: Connection, message: Message) -> None:
        """A fresh token in place of the one that the connection came with; for the same user."""
        token = message.get("token")
        verify = self._manager.verify
        if verify is None or connection.expiry is None:
            raise NotAllowed("this connection needs no token", connection=connection)
        if not isinstance(token, str):
            raise InvalidMessage("a message of type 'authenticate' needs a token: text", connection=connection)
        identity = verify(token)
        if identity.user != connection.user:
            raise NotAllowed("the token is another user's", code=ErrorCode.INVALID_TOKEN, connection=connection)
        connection.expiry.renew(identity.expires_at)
        self._answer(connection, message, "authenticated", expires_at=identity.expires_at)

    async def _history(self, connection: Connection, message: Message) -> None:
        topic = message.topic or ""
        if not self._manager.policy.may_subscribe(connection, topic):
            raise NotAllowed(f"you may not read {quote(topic)}", connection=connection, received=message)
        limit, before = message.get("limit"), message.get("before") or ""
        if limit is None:
            limit = HISTORY
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_HISTORY:
            raise InvalidMessage(f"limit must be an integer from 1 to {MAX_HISTORY}", received=message)
        try:
            if before:
                parse_position(before)
        except (ValueError, AttributeError):
            raise InvalidMessage("before must be the id of a message", received=message) from None
        found, more = await self._manager.feed.history(topic, before, limit)
        payload = b'{"type":"history","topic":%b,"ref":%b,"more":%b,"messages":[%b]}' % (
            encode(topic),
            encode(message.ref),
            b"true" if more else b"false",
            b",".join(entry.payload for entry in found),
        )
        connection.outbox.write(Bundle((payload,)))

    async def _presence(self, connection: Connection, message: Message) -> None:
        topic = message.topic or ""
        presence = self._manager.presence
        if presence is None or not self._manager.policy.may_subscribe(connection, topic):
            raise NotAllowed(f"you may not see who is in {quote(topic)}", connection=connection, received=message)
        members, total = await presence.members(topic)
        self._answer(connection, message, "presence", members=members, total=total)

    async def _subscribe(self, connection: Connection, message: Message) -> None:
        pattern = message.topic or ""
        if not self._manager.policy.may_subscribe(connection, pattern):
            raise NotAllowed(f"you may not subscribe to {quote(pattern)}", connection=connection, received=message)
        if pattern not in connection.topics and len(connection.topics) >= connection.limits.subscriptions:
            raise LimitExceeded(
                f"at most {connection.limits.subscriptions} subscriptions are taken",
                code=ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                connection=connection,
                received=message,
            )
        since = _since(message)
        # The shards must be read before the connection may be told its position, and nothing may come between
        # telling it and delivering to it; so the feed follows the pattern first and the index is told last.
        readers = self._manager.feed.follow(pattern)
        try:
            for reader in readers:
                await reader.opened()
            if since is None or len(readers) != 1:
                recovered = None if since is None else False
                subscribe(connection, message)
                self._answer_subscribed(connection, message, readers, recovered)
            else:
                await self._resume(connection, message, readers[0], since)
        finally:
            self._manager.feed.unfollow(pattern)

    async def _resume(self, connection: Connection, message: Message, reader: ShardReader, since: Since) -> None:
        """Replay what was missed behind `since`, then go live, with no gap and no repetition.

        While the newest part of the log in memory does not reach back to where the client is, pages are read from the
        log. The last step is taken without waiting, so nothing can be published in between.
        """
        pattern = message.topic or ""
        if pattern in connection.topics:  # resuming a live subscription would deliver twice
            unsubscribe(connection, Message(type="unsubscribe", topic=pattern))
        if not await self._can_recover(reader, since):
            RECOVERIES.labels("lost").inc()
            subscribe(connection, message)
            self._answer_subscribed(connection, message, [reader], False)
            return
        await self._catch_up(reader, since.position)
        self._answer(connection, message, "subscribed", position=since.position, epoch=since.epoch, recovered=True)
        RECOVERIES.labels("recovered").inc()
        try:
            missed = await self._replay(connection, pattern, reader, since)
        except BrokerError:
            # It got the beginning of what it missed, in order. It resumes from there.
            await connection.close(CloseCode.INTERNAL_ERROR)
            return
        subscribe(connection, message)
        if missed:
            connection.outbox.write(Bundle([entry.payload for entry in missed]))

    async def _can_recover(self, reader: ShardReader, since: Since) -> bool:
        if since.epoch != reader.epoch:
            return False
        if reader.tail.reaches(since.position) and parse_position(since.position) <= parse_position(reader.position):
            return True
        return reaches_back(await reader.extent(), since)

    async def _replay(self, connection: Connection, pattern: str, reader: ShardReader, since: Since) -> list[Entry]:
        """Send what was missed, piece by piece, at the speed of the client. Returns the rest, one piece at most.

        Raises `BrokerError` when the log ends before that: it was trimmed, lost, or cannot be reached.
        """
        position = since.position
        while True:
            if reader.epoch != since.epoch:
                raise BrokerError("the log was lost while it was replayed")
            missed = reader.tail.behind(pattern, position)
            if missed is None:
                until = reader.position
                page = await reader.page(position, until, limit=PAGE)
                if not reaches_back(await reader.extent(), Since(position, since.epoch)):
                    raise BrokerError("the log was trimmed while it was replayed")
                missed = [entry for entry in page if concerns(entry, pattern)]
                position = page[-1].position if page else until
            elif sum(len(entry.body) for entry in missed) <= PIECE_BYTES:
                return missed
            else:
                position = missed[-1].position
            for piece in _pieces(missed):
                connection.outbox.write(Bundle(piece))
                await connection.outbox.flushed()

    async def _catch_up(self, reader: ShardReader, position: str) -> None:
        """Wait until this worker's reader is where another worker's was: what it hears until then the client has."""
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await reader.reached(position)
        except TimeoutError:
            raise BrokerError(f"this worker is behind position {position}; try again") from None

    def _answer_subscribed(
        self, connection: Connection, message: Message, readers: Sequence[ShardReader], recovered: bool | None
    ) -> None:
        # A pattern that spans shards has no single position to resume from.
        one = readers[0] if len(readers) == 1 else None
        more: dict[str, Any] = {} if recovered is None else {"recovered": recovered}
        self._answer(
            connection,
            message,
            "subscribed",
            position=one.position if one else None,
            epoch=one.epoch if one else None,
            **more,
        )

    def _answer(self, connection: Connection, message: Message, kind: str, **more: Any) -> None:
        answer = {"type": kind, **more}
        if message.topic is not None:
            answer["topic"] = message.topic
        if message.ref is not None:
            answer["ref"] = message.ref
        connection.write_json(answer)


def _refuse(connection: Connection, message: Any, exc: WebSocketException) -> None:
    fields = message.data if isinstance(message, Message) else message
    connection.send_error(exc, reference(fields) if isinstance(fields, dict) else None)


def _pieces(entries: Sequence[Entry]) -> Iterator[list[bytes]]:
    """The payloads in pieces of about `PIECE_BYTES`."""
    piece: list[bytes] = []
    size = 0
    for entry in entries:
        piece.append(entry.payload)
        size += len(entry.body)
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _since(message: Message) -> Since | None:
    """The `since` of a subscribe message. Raises `InvalidMessage` when it is not a position and an epoch."""
    since = message.get("since")
    if since is None:
        return None
    try:
        if not isinstance(since["epoch"], str):
            raise TypeError
        parse_position(since["position"])
        return Since(since["position"], since["epoch"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidMessage(
            "since must be {position, epoch} as a `subscribed` answer or a message gave them", received=since
        ) from None
