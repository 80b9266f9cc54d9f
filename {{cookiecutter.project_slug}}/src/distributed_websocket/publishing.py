"""`Publisher`: what is published within a tick goes to the log together, and what comes meanwhile goes next.

One batch per shard is under way at a time. So nothing waits while the log is quick, and while it is slow the batches
grow; nobody who publishes has to wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from .backoff import delays
from .brokers.interface import LogBroker, Record
from .exceptions import BrokerError, Overloaded, WebSocketException
from .message import Ref
from .metrics import APPEND_FAILURES

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger(__name__)

MAX_BATCH: Final = 512
"""Records in one append: Redis does nothing else meanwhile, 512 take it about 2 ms."""


class Pending:
    """A record on its way into the log, and who is to be told."""

    __slots__ = ("connection", "error", "position", "record", "ref", "since", "stored")

    def __init__(self, record: Record, connection: Connection | None = None, ref: Ref | None = None) -> None:
        self.record = record
        self.connection = connection
        self.ref = ref
        self.since = 0.0
        self.stored: asyncio.Future[str] | None = None
        self.position = ""
        self.error: WebSocketException | None = None


Settle = Callable[[Sequence[Pending]], None]
"""Called with one `Pending` or more that ended; each has its position or its error."""


class Publisher:
    """Appends to the log of each shard in the order of `submit`.

    At most `max_waiting_bytes` wait in all; beyond it `submit` raises `Overloaded`. When the broker fails, records with
    an idempotency key are tried again for `retry_seconds`; those without fail at once: they may be stored already.
    """

    def __init__(
        self,
        broker: LogBroker,
        channel: str,
        settle: Settle,
        *,
        max_waiting_bytes: int = 8 * 1024 * 1024,
        retry_seconds: float = 10.0,
    ) -> None:
        self._broker = broker
        self._channel = channel
        self._settle = settle
        self._max_waiting_bytes = max_waiting_bytes
        self._retry_seconds = retry_seconds
        self._waiting: dict[int, deque[Pending]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.waiting_bytes = 0

    def has_room(self, size: int) -> bool:
        """Whether bodies of so many bytes in all may be submitted now, before anything else runs."""
        return self.waiting_bytes + size <= self._max_waiting_bytes

    def submit(self, pending: Pending, shard: int | None = None) -> None:
        """Queue a record for its topic's shard, or the shard given. Raises `Overloaded`."""
        size = len(pending.record.body)
        if not self.has_room(size):
            raise Overloaded(
                f"{self.waiting_bytes} bytes wait to be stored already; send again later", connection=pending.connection
            )
        self.waiting_bytes += size
        loop = asyncio.get_running_loop()
        pending.since = loop.time()
        if shard is None:
            shard = self._broker.shard_of(pending.record.topic)
        self._waiting.setdefault(shard, deque()).append(pending)
        if shard not in self._tasks:
            self._tasks[shard] = loop.create_task(self._empty(shard))

    def publish(self, record: Record, shard: int | None = None) -> asyncio.Future[str]:
        """Submit a record. The future gives its position, or raises `Overloaded` or `BrokerError`."""
        pending = Pending(record)
        pending.stored = asyncio.get_running_loop().create_future()
        try:
            self.submit(pending, shard)
        except Overloaded as error:
            pending.stored.set_exception(error)
        return pending.stored

    async def close(self, within_seconds: float) -> None:
        """Wait for what was submitted, then give up on the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within_seconds)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _empty(self, shard: int) -> None:
        waiting = self._waiting[shard]
        try:
            while waiting:
                batch = [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]
                await self._store(shard, batch)
        finally:
            del self._tasks[shard]

    async def _store(self, shard: int, batch: list[Pending]) -> None:
        wait = delays()
        while batch:
            error: WebSocketException
            try:
                positions = await self._broker.append(self._channel, shard, [pending.record for pending in batch])
            except BrokerError as exc:
                error = exc
            except Exception as exc:
                logger.exception("appending to shard %d failed in an unforeseen way", shard)
                error = BrokerError(f"unforeseen: {exc!r}")
            else:
                for pending, position in zip(batch, positions, strict=True):
                    pending.position = position
                self._ended(batch)
                return
            APPEND_FAILURES.inc()
            oldest = asyncio.get_running_loop().time() - self._retry_seconds
            hopeless = [pending for pending in batch if not pending.record.key or pending.since < oldest]
            for pending in hopeless:
                pending.error = error
            batch = [pending for pending in batch if pending.error is None]
            logger.warning("shard %d: %s; %d given up, %d tried again", shard, error, len(hopeless), len(batch))
            if hopeless:
                self._ended(hopeless)
            if batch:
                await asyncio.sleep(next(wait))

    def _ended(self, batch: Sequence[Pending]) -> None:
        for pending in batch:
            self.waiting_bytes -= len(pending.record.body)
            if pending.stored is not None and not pending.stored.done():
                if pending.error is not None:
                    pending.stored.set_exception(pending.error)
                else:
                    pending.stored.set_result(pending.position)
        try:
            self._settle(batch)
        except Exception:
            logger.exception("telling the senders of a batch failed; the batches behind it go on")
