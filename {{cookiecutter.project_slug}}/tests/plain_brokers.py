"""Brokers as an owner of the project would write them: the six coroutines and nothing else."""

import asyncio
from collections import defaultdict
from typing import Any, ClassVar

import orjson

from distributed_websocket import BrokerInterface, Message


class PlainBroker(BrokerInterface):
    """Workers of one process that share a list of queues."""

    queues: ClassVar[dict[str, list["asyncio.Queue[str]"]]] = defaultdict(list)

    def __init__(self, patience_seconds: float = 0.001) -> None:
        self.patience_seconds = patience_seconds
        self.connected = False
        self.asked = 0
        """How often `get_message` was called."""
        self.failing: set[str] = set()
        self._mine: dict[str, asyncio.Queue[str]] = {}

    def _fault(self, method: str) -> None:
        if method in self.failing:
            raise ConnectionError(f"{method} failed")

    async def connect(self) -> None:
        self._fault("connect")
        self.connected = True

    async def disconnect(self) -> None:
        self.connected = False
        for channel, queue in self._mine.items():
            self.queues[channel].remove(queue)
        self._mine.clear()

    async def subscribe(self, channel: str) -> None:
        if channel not in self._mine:
            self._mine[channel] = asyncio.Queue()
            self.queues[channel].append(self._mine[channel])

    async def unsubscribe(self, channel: str) -> None:
        self.queues[channel].remove(self._mine.pop(channel))

    async def publish(self, channel: str, message: Any) -> None:
        self._fault("publish")
        for queue in self.queues[channel]:
            queue.put_nowait(message)

    async def get_message(self, **kwargs: Any) -> Message | None:
        self.asked += 1
        self._fault("get_message")
        for queue in self._mine.values():
            if not queue.empty():
                return Message.from_client_message(data=orjson.loads(queue.get_nowait()))
        await asyncio.sleep(self.patience_seconds)
        return None
