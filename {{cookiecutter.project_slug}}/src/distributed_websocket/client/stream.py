"""`Stream`: the messages of one subscription, in order, between a client that hears them and whoever iterates."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..exceptions import WebSocketException
from .events import Fields, Hole

Item = Fields | Hole | WebSocketException


class Stream:
    """Iterating gives the messages, raises what ended the subscription, and ends when the client is closed.

    `paused` while the server was asked to send no more.
    """

    def __init__(
        self,
        topic: str,
        *,
        on_taken: Callable[[Stream], None],
        on_hole: Callable[[str], None] | None,
        keep: int | None = None,
    ) -> None:
        self.topic = topic
        self.paused = False
        self._items: deque[tuple[int, Item]] = deque(maxlen=keep)
        self._on_taken = on_taken
        self._on_hole = on_hole
        self._arrived = asyncio.Event()
        self._ended = False

    def __len__(self) -> int:
        """How many messages wait."""
        return len(self._items)

    @property
    def oldest(self) -> int:
        """The number of the item that is next."""
        return self._items[0][0]

    def put(self, number: int, item: Item) -> None:
        """Numbers grow with the time of arrival, over all streams of a client."""
        self._items.append((number, item))
        self._arrived.set()

    def end(self) -> None:
        """There is no more behind what waits."""
        self._ended = True
        self._arrived.set()

    def take(self) -> Fields | None:
        """The next message; None for a hole, which was told. Raises an exception that was put."""
        _, item = self._items.popleft()
        self._on_taken(self)
        if isinstance(item, WebSocketException):
            raise item
        if isinstance(item, Hole):
            if self._on_hole is not None:
                self._on_hole(item.topic)
            return None
        return item

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Fields:
        while True:
            while self._items:
                message = self.take()
                if message is not None:
                    return message
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
