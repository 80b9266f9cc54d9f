"""`WebSocketManager`: this worker's connections on one side, the feed from all workers on the other."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from hashlib import blake2b
from types import TracebackType
from typing import Any, Self, TypeVar

from fastapi import WebSocket

from .auth import Identity, refuse
from .brokers import create_broker
from .brokers.interface import BrokerInterface, Entry, LogBroker, Record, is_valid_broker
from .codes import CloseCode
from .connection import DEFAULT_LIMITS, Connection
from .delivery import Bundle, fan_out
from .exceptions import InvalidMessage, quote
from .expiry import Expiry
from .feed import Feed, LogFeed, PlainFeed
from .limits import Limits
from .message import Message, Ref, encode, stamped
from .metrics import (
    BATCH,
    DELIVERED,
    FAN_OUT_SECONDS,
    LOG_LOST,
    PUBLISH_SECONDS,
    count_end,
    count_refusal,
    unwatch,
    watch,
)
from .policy import Policy
from .presence import Presence
from .publishing import Pending
from .reading import ShardReader
from .requests import Handler, Requests
from .roster import Roster
from .serving import serve
from .topics import TopicIndex, validate_pattern

logger = logging.getLogger(__name__)

H = TypeVar("H", bound=Handler)


class _Done:
    """What is done already, for callers who `await` it all the same."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


DONE = _Done()


class WebSocketManager:
    """Keeps the connections of one worker and connects them with those of all the others.

    `broker_channel` names the log; workers of one service share it. The broker comes from `broker_url` (see
    `create_broker`), from `broker_class`, called with `broker_options`, or is given as `broker`. `worker` is this
    worker's name. `policy` decides what clients may do, `limits` how much. `verify` judges the fresh tokens that
    clients send over the socket (`TokenVerifier.verify`). `probe_seconds` is how long the log may be silent before the
    worker tests whether it still hears it (`None`: never), `answer_seconds` how long the broker may take to answer.
    """

    def __init__(
        self,
        broker_channel: str,
        broker_url: str | None = None,
        broker_class: type[BrokerInterface] | None = None,
        *,
        broker: BrokerInterface | None = None,
        worker: str | None = None,
        policy: Policy | None = None,
        probe_seconds: float | None = 5.0,
        answer_seconds: float = 2.0,
        limits: Limits = DEFAULT_LIMITS,
        verify: Callable[[str], Identity] | None = None,
        **broker_options: Any,
    ) -> None:
        self.worker = worker or secrets.token_hex(4)
        self.policy = policy or Policy()
        self.limits = limits
        self.verify = verify
        self.broker_channel = broker_channel
        self.broker = broker or _make_broker(broker_url, broker_class, broker_options)
        self.feed: Feed
        self.presence: Presence | None = None
        if isinstance(self.broker, LogBroker):
            self.feed = LogFeed(
                self.broker,
                broker_channel,
                on_batch=self._deliver,
                on_lost=self._tell_of_hole,
                settle=self._settle,
                probe_seconds=probe_seconds,
                answer_seconds=answer_seconds,
                max_waiting_bytes=limits.waiting_bytes,
            )
            this_process = f"{self.worker}#{secrets.token_hex(4)}"
            self.presence = Presence(self.broker, broker_channel, this_process, self.policy)
        else:
            self.feed = PlainFeed(
                self.broker,
                broker_channel,
                on_batch=self._deliver,
                settle=self._settle,
                probe_seconds=probe_seconds,
                answer_seconds=answer_seconds,
            )
        self.index: TopicIndex[Connection] = TopicIndex()
        self.requests = Requests(self)
        self._roster = Roster(limits)
        self.draining = False

    # Life

    async def startup(self) -> None:
        """Start to hear the other workers. Returns at once: whether they are heard is in `not_ready_reason`."""
        watch(self)
        await self.feed.start()
        if self.presence is not None:
            self.presence.start()

    async def shutdown(self) -> None:
        """Close every connection (1012, "come back"), publish what was accepted, and leave the broker."""
        connections = list(self._roster)
        await asyncio.gather(*(self.close_connection(connection, CloseCode.DRAIN) for connection in connections))
        if self.presence is not None:
            await self.presence.stop()
        await self.feed.stop()
        unwatch(self)

    async def __aenter__(self) -> Self:
        await self.startup()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def drain(self, within_seconds: float) -> None:
        """Send everybody elsewhere, spread over a time, so that the others do not get all of them at once.

        At once: not ready, no new connections, and a `reconnect` notice to everyone. Then one after the other is closed
        with 1012. Returns when the last was told.
        """
        self.draining = True
        notice = Bundle((encode({"type": "reconnect", "within_seconds": within_seconds}),))
        leaving = self.active_connections
        for connection in leaving:
            connection.outbox.write(notice)
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, connection in enumerate(leaving, 1):
            await asyncio.sleep(start + within_seconds * number / len(leaving) - loop.time())
            connection.outbox.end(CloseCode.DRAIN)

    @property
    def not_ready_reason(self) -> str | None:
        """Why this worker should get no new connections now; `None` when it is ready."""
        return "draining" if self.draining else self.feed.not_ready_reason

    @property
    def unsent_bytes(self) -> int:
        """What the clients' sockets have not taken yet, all together."""
        return sum(connection.outbox.unsent_bytes for connection in self._roster)

    @property
    def waiting_bytes(self) -> int:
        """What was accepted and is not stored yet."""
        return self.feed.waiting_bytes

    @property
    def silent_seconds(self) -> float:
        """Since the other workers, or a probe, were last heard."""
        return self.feed.silent_seconds

    @property
    def present(self) -> int:
        """Users in topics by this worker's connections; one who is in two topics counts twice."""
        return 0 if self.presence is None else len(self.presence)

    # Connections

    @property
    def active_connections(self) -> list[Connection]:
        return list(self._roster)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self.active_connections)

    def __len__(self) -> int:
        return len(self._roster)

    async def new_connection(
        self,
        websocket: WebSocket,
        conn_id: str,
        topic: str | None = None,
        *,
        user: str | None = None,
        expires_at: float | None = None,
        subprotocol: str | None = None,
    ) -> Connection:
        """Accept a WebSocket and keep its connection, subscribed to `topic` where one is given.

        `user` is whose it is, and `expires_at` (Unix time in seconds) until when it may be, both by a verified token.
        Beyond a limit, or while draining, the handshake ends with 429 or 503 and nothing is returned (see `refuse`).
        Raises `InvalidSubscription` for a topic that breaks a rule of MQTT 5 §4.7.
        """
        if topic:
            validate_pattern(topic, max_bytes=self.limits.topic_bytes)
        refusal = self._roster.admit(user, draining=self.draining)
        if refusal is not None:
            await refuse(websocket, refusal.status, refusal.detail)
        connection = Connection(websocket, conn_id, user=user, limits=self.limits)
        try:
            await connection.accept(subprotocol)
        except BaseException:
            self._roster.cancel(user)
            raise
        connection.manager = self
        if expires_at is not None:
            connection.expiry = Expiry(connection, expires_at, self.limits.token_grace_seconds)
        self._roster.add(connection)
        connection.write_json({"type": "welcome", "conn_id": conn_id, "worker": self.worker, "user": user})
        if topic:
            connection.topics.add(topic)
            self.follow(connection, topic)
        return connection

    async def close_connection(self, connection: Connection, code: int = CloseCode.NORMAL) -> None:
        """Close a connection and keep it no more."""
        connection.closed_with = int(code)
        self.remove_connection(connection)
        await connection.close(code)

    def remove_connection(self, connection: Connection) -> _Done:
        """Keep a connection no more that is closed already. May be awaited; may be called twice."""
        if connection in self._roster:
            self._roster.remove(connection)
            for pattern in connection.topics:
                self.unfollow(connection, pattern)
            connection.manager = None
            if connection.expiry is not None:
                connection.expiry.cancel()
            self._note_end(connection)
        return DONE

    def _note_end(self, connection: Connection) -> None:
        """The one line of a connection's life. What it said is nobody's business here."""
        code = connection.end_code
        count_end(code)
        if logger.isEnabledFor(logging.INFO):
            fields = {
                "conn_id": connection.id,
                "user": connection.user,
                "worker": self.worker,
                "code": code,
                "seconds": round(time.monotonic() - connection.opened_at, 3),
                "received": connection.received,
                "sent": connection.outbox.sent,
                "topics": len(connection.topics),
            }
            logger.info("connection ended", extra=fields)

    def set_conn_id(self, connection: Connection, conn_id: str) -> _Done:
        """Set the connection id and notify the client."""
        if connection in self._roster:
            self._roster.rename(connection, conn_id)
        connection.id = conn_id
        connection.write_json({"type": "set_conn_id", "conn_id": conn_id})
        return DONE

    def follow(self, connection: Connection, pattern: str) -> Sequence[ShardReader]:
        """Deliver a pattern to a connection from now on. Called by `subscribe`, once per connection and pattern."""
        if not self.index.add(pattern, connection):
            return ()
        if self.presence is not None:
            self.presence.enter(connection, pattern)
        return self.feed.follow(pattern)

    def unfollow(self, connection: Connection, pattern: str) -> None:
        """Deliver it no more. What was never followed is left: anybody may change `connection.topics`."""
        if not self.index.discard(pattern, connection):
            return
        if self.presence is not None:
            self.presence.leave(connection, pattern)
        self.feed.unfollow(pattern)

    # From the client

    def on(self, kind: str) -> Callable[[H], H]:
        """Decorate the function that handles messages of a type of the service's own, a coroutine function or not.

        It gets the connection and the message. A `WebSocketException` that it raises is told to the client. Raises
        `ValueError` for a type that is handled already, and for one that only the server says (`error`, `joined`, ...).
        """

        def decorate(handler: H) -> H:
            self.requests.add(kind, handler)
            return handler

        return decorate

    async def receive(self, connection: Connection, message: Any) -> None:
        """Do what a client's message asks for: a dict from `iter_json`, or a `Message`.

        What is wrong with it is answered with an `error`; the connection stays.
        """
        waiting = self.requests.begin(connection, message)
        if waiting is not None:
            await waiting

    async def serve(self, connection: Connection) -> None:
        """Receive a connection's messages until it is gone, then keep it no more: all that an endpoint has to do.

        Under `RawWebSocketProtocol` it returns at once and the connection lives on without a task; so an endpoint must
        have nothing left to do after it.
        """
        await serve(self, connection)

    def submit(self, message: Message, connection: Connection | None = None, ref: Ref | None = None) -> None:
        """Publish to all workers without waiting; `connection` gets the ack.

        Raises `Overloaded`, and `InvalidMessage` for what cannot be encoded, and for what is no `broadcast` and has
        neither a topic nor connections.
        """
        sender = connection.user if connection is not None else None
        conn_ids = message.conn_ids
        if not message.topic and not conn_ids and message.type != "broadcast":
            # It would reach everybody, and nobody was asked whether it may.
            raise InvalidMessage(
                f"a message of type {quote(message.type)} needs a topic", connection=connection, received=message
            )
        body = message.body(sender)
        key = ""
        # What is not kept has no place for names: it would reach everybody.
        ephemeral = message.get("ephemeral") is True and not conn_ids
        if connection is not None and ref is not None and not ephemeral:
            # With the body in it, two messages of one user that happen to have the same ref stay two messages.
            key = blake2b(f"{sender or connection.id}\n{ref!r}\n".encode() + body, digest_size=12).hexdigest()
        record = Record(message.topic or "", stamped(body), conn_ids, key, ephemeral)
        self.feed.submit(Pending(record, connection, ref))

    def _settle(self, batch: Sequence[Pending]) -> None:
        """Tell the senders of a batch how it ended: one write for each of them."""
        answers: dict[Connection, list[bytes]] = {}
        PUBLISH_SECONDS.observe(asyncio.get_running_loop().time() - batch[0].since)
        for pending in batch:
            connection = pending.connection
            if connection is None:
                continue
            if pending.error is not None:
                error = pending.error
                count_refusal(error.code)
                answer = {"type": "error", "code": error.code, "detail": error.message, "ref": pending.ref}
            elif pending.ref is not None:
                answer = {"type": "ack", "ref": pending.ref, "id": _id_of(pending)}
            else:
                continue
            answers.setdefault(connection, []).append(encode(answer))
        for connection, payloads in answers.items():
            connection.outbox.write(Bundle(payloads))

    # To the clients

    def _deliver(self, entries: Sequence[Entry]) -> None:
        started = time.perf_counter()
        DELIVERED.inc(fan_out(entries, self._receivers))
        FAN_OUT_SECONDS.observe(time.perf_counter() - started)
        BATCH.observe(len(entries))

    def _receivers(self, entry: Entry) -> Collection[Connection]:
        if entry.conn_ids:
            return self._roster.with_ids(entry.conn_ids)
        if entry.topic:
            return self.index.match(entry.topic)
        return self._roster.everybody()

    def _tell_of_hole(self, reader: ShardReader) -> None:
        """The log lost entries: whoever hears it is told, and reloads what it shows."""
        if not isinstance(self.broker, LogBroker) or self.presence is None:
            return
        LOG_LOST.inc()
        self.presence.renew()
        for connection in self._roster:
            for pattern in connection.topics:
                shards = self.broker.shards_of(pattern)
                if reader.shard in shards:
                    # A pattern that spans shards has no single position to resume from.
                    position, epoch = (reader.position, reader.epoch) if len(shards) == 1 else (None, None)
                    hole = {"type": "subscribed", "topic": pattern, "position": position, "epoch": epoch}
                    connection.write_json(hole | {"recovered": False})

    def send(self, message: Message | dict[str, Any]) -> _Done:
        """Send a message to the connections of this worker that are subscribed to its topic."""
        message = _as_message(message)
        return self._send_to(self.index.match(message.topic or ""), message)

    def broadcast(self, message: Message | dict[str, Any]) -> _Done:
        """Send a message to all connections of this worker."""
        return self._send_to(self._roster, message)

    def send_by_conn_id(self, message: Message | dict[str, Any]) -> _Done:
        """Send a message to the connections of this worker whose `id` is `message.conn_id`, or in it."""
        message = _as_message(message)
        return self._send_to(self._roster.with_ids(message.conn_ids), message)

    def send_msg(self, message: Message | dict[str, Any]) -> _Done:
        """Call `broadcast`, `send_by_conn_id` or, for every other type, `send`."""
        message = _as_message(message)
        if message.type == "broadcast":
            return self.broadcast(message)
        if message.type == "send_by_conn_id":
            return self.send_by_conn_id(message)
        return self.send(message)

    def _send_to(self, connections: Iterable[Connection], message: Message | dict[str, Any]) -> _Done:
        fields = message.__serialize__() if isinstance(message, Message) else message
        bundle = Bundle((encode(fields),))
        for connection in list(connections):
            connection.outbox.write(bundle)
        return DONE


def _id_of(pending: Pending) -> str | None:
    return None if pending.record.ephemeral else pending.position or None


def _as_message(message: Message | dict[str, Any]) -> Message:
    if isinstance(message, Message):
        return message
    fields = dict(message)
    return Message(
        type=fields.pop("type", "send"),
        topic=fields.pop("topic", None),
        conn_id=fields.pop("conn_id", None),
        data=fields,
    )


def _make_broker(
    url: str | None, broker_class: type[BrokerInterface] | None, options: dict[str, Any]
) -> BrokerInterface:
    if broker_class is None:
        return create_broker(url or "memory://", **options)
    if not is_valid_broker(broker_class):
        raise TypeError(f"{broker_class!r} is no broker: it needs the six coroutines of BrokerInterface")
    return broker_class(**options)
