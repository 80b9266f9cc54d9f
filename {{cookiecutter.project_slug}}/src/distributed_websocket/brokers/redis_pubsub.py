"""`RedisPubSubBroker`: the channel over Redis pub/sub. At most once: nothing is stored.

What is published while a worker does not hear (a lost connection, a restart of Redis, a full output buffer) is lost for
its clients, and nobody is told. No positions, no resuming, no history, no presence; an ack means that Redis took
the message. For services where the next message makes up for a lost one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import ConnectionPool
from redis.exceptions import RedisError

from ..exceptions import BrokerError
from ..message import Message, encode
from .clients import CONNECTION_OPTIONS, RedisURL
from .interface import BrokerInterface, message_of_fields

BATCH: Final = 500
"""Messages in one batch at most: bounds how long one batch keeps the event loop."""


class RedisPubSubBroker(BrokerInterface):
    """The six coroutines, and `get_messages`: all that is there at once. Errors are raised as `BrokerError`.

    `connect` always makes a new connection to listen on, and subscribes it to the channels of the old one.
    `command_timeout_seconds` bounds connecting and publishing.
    """

    def __init__(self, redis_url: str, *, command_timeout_seconds: float = 5.0) -> None:
        target = RedisURL.parse(redis_url)
        (address,) = target.addresses
        pool = ConnectionPool(host=address.host, port=address.port, **target.options, **CONNECTION_OPTIONS)
        self._redis = Redis.from_pool(pool)
        self._timeout_seconds = command_timeout_seconds
        self._channels: set[str] = set()
        self._listener: PubSub | None = None

    async def connect(self) -> None:
        async with _broker_errors("connect to", self._timeout_seconds):
            await self._stop_listening()
            await self._redis.ping()
            if self._channels:
                await self._listening().subscribe(*self._channels)

    async def disconnect(self) -> None:
        self._channels.clear()
        await self._stop_listening()
        await self._redis.aclose()

    def _listening(self) -> PubSub:
        if self._listener is None:
            self._listener = self._redis.pubsub(ignore_subscribe_messages=True)
        return self._listener

    async def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.aclose()  # type: ignore[no-untyped-call]

    async def subscribe(self, channel: str) -> None:
        async with _broker_errors("subscribe to", self._timeout_seconds):
            await self._listening().subscribe(channel)
        self._channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        if self._listener is not None:
            async with _broker_errors("unsubscribe from", self._timeout_seconds):
                await self._listener.unsubscribe(channel)

    async def publish(self, channel: str, message: Any) -> None:
        """Publish a `Message`, its dict, or its JSON text. Returns when Redis took it."""
        if isinstance(message, Message):
            message = message.__serialize__()
        text = message if isinstance(message, (str, bytes)) else encode(message)
        async with _broker_errors("publish to", self._timeout_seconds):
            await self._redis.publish(channel, text)

    async def get_message(self, *, wait_seconds: float = 1.0, **kwargs: Any) -> Message | None:
        """The next message of the subscribed channels; `None` after `wait_seconds` without one."""
        messages = await self.get_messages(wait_seconds=wait_seconds, limit=1)
        return messages[0] if messages else None

    async def get_messages(self, *, wait_seconds: float = 1.0, limit: int = BATCH, **kwargs: Any) -> Sequence[Message]:
        """Waits up to `wait_seconds` for the first message, and takes those that came with it."""
        messages: list[Message] = []
        listener = self._listening()
        async with _broker_errors("listen to", wait_seconds + self._timeout_seconds):
            if not listener.channels:
                return messages
            wait = wait_seconds
            while len(messages) < limit:
                heard = await listener.get_message(timeout=wait)
                if heard is None:
                    break
                wait = 0.0
                message = _message(heard["data"])
                if message is not None:
                    messages.append(message)
        return messages


def _message(text: Any) -> Message | None:
    """`None` for what another program put into the channel."""
    try:
        fields = orjson.loads(text)
        return message_of_fields(fields) if isinstance(fields, dict) else None
    except ValueError:
        return None


@asynccontextmanager
async def _broker_errors(doing: str, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise BrokerError(f"could not {doing} Redis within {seconds:g} s") from exc
    except (RedisError, OSError) as exc:
        raise BrokerError(f"could not {doing} Redis: {str(exc) or type(exc).__name__}") from exc
