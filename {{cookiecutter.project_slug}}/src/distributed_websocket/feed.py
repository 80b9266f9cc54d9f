"""What a worker hears from the others: a `Feed` takes what is published here and hands over what comes from everywhere.

LogFeed      over a `LogBroker`: one publisher, one reader per shard that this worker's subscribers need
PlainFeed    over any broker with the six coroutines: at most once, no positions
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .backoff import delays
from .brokers.interface import CONTROL_SHARD, BrokerInterface, Entry, LogBroker
from .exceptions import BrokerError, NotAllowed, Overloaded
from .message import encode
from .publishing import Pending, Publisher, Settle
from .reading import ShardReader
from .recovery import concerns

logger = logging.getLogger(__name__)

HISTORY_PAGE: Final = 1_000
"""Entries of the log read at once for a page of history: the log of a shard holds many topics."""

HISTORY_PAGES: Final = 10
"""How many of them at most for one request: what is asked for next goes on from there."""

OnBatch = Callable[[Sequence[Entry]], None]
OnLost = Callable[[ShardReader], None]


class Feed(Protocol):
    """The manager's side of the broker."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def submit(self, pending: Pending) -> None:
        """Publish without waiting; `settle` is told how it ended. Raises `Overloaded`."""

    def follow(self, pattern: str) -> Sequence[ShardReader]:
        """Begin to hear a topic or pattern. The readers that know its positions: none where there are no positions."""

    def unfollow(self, pattern: str) -> None: ...

    async def history(self, topic: str, before: str, limit: int) -> tuple[list[Entry], bool]:
        """The newest messages of a topic before a position ("" for now), oldest first; and whether there are older.

        Raises `NotAllowed` where nothing is stored.
        """

    @property
    def not_ready_reason(self) -> str | None:
        """Why this worker does not hear the others now, or `None`."""


class LogFeed:
    """Positions, batches and probes over a `LogBroker`."""

    def __init__(
        self,
        broker: LogBroker,
        channel: str,
        *,
        on_batch: OnBatch,
        on_lost: OnLost,
        settle: Settle,
        probe_seconds: float | None = 5.0,
        answer_seconds: float = 2.0,
        max_waiting_bytes: int = 8 * 1024 * 1024,
        retry_seconds: float = 10.0,
    ) -> None:
        self._broker = broker
        self._channel = channel
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._probe_seconds = probe_seconds
        self._answer_seconds = answer_seconds
        self._readers: dict[int, ShardReader] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self.publisher = Publisher(
            broker, channel, settle, max_waiting_bytes=max_waiting_bytes, retry_seconds=retry_seconds
        )

    async def start(self) -> None:
        """Begin to read the control shard. A broker that cannot be reached yet makes the worker not ready, no more."""
        self._follow(CONTROL_SHARD)

    async def stop(self) -> None:
        await self.publisher.close(within_seconds=self._answer_seconds)
        await asyncio.gather(*(reader.stop() for reader in self._readers.values()), *self._stopping)
        self._readers.clear()
        await self._broker.disconnect()

    def submit(self, pending: Pending) -> None:
        self.publisher.submit(pending)

    def follow(self, pattern: str) -> Sequence[ShardReader]:
        return [self._follow(shard) for shard in self._broker.shards_of(pattern)]

    def _follow(self, shard: int) -> ShardReader:
        reader = self._readers.get(shard)
        if reader is None:
            reader = self._readers[shard] = ShardReader(
                self._broker,
                self._channel,
                shard,
                on_batch=lambda _, entries: self._on_batch(entries),
                on_lost=self._on_lost,
                publish=self.publisher.publish,
                probe_seconds=self._probe_seconds,
                answer_seconds=self._answer_seconds,
            )
            if shard != CONTROL_SHARD:
                # Somebody needs one more shard: no reason to refuse others until it is open. `_run` says if it fails.
                reader.deaf_reason = None
            reader.start()
        reader.followers += 1
        return reader

    def unfollow(self, pattern: str) -> None:
        for shard in self._broker.shards_of(pattern):
            reader = self._readers.get(shard)
            if reader is None:  # the feed was stopped meanwhile
                continue
            reader.followers -= 1
            if not reader.followers:
                del self._readers[shard]
                stopping = asyncio.create_task(reader.stop())
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)

    async def history(self, topic: str, before: str, limit: int) -> tuple[list[Entry], bool]:
        shard = self._broker.shard_of(topic)
        found: list[Entry] = []
        for _ in range(HISTORY_PAGES):
            page = await self._broker.range_back(self._channel, shard, before, limit=HISTORY_PAGE)
            found += [entry for entry in page if concerns(entry, topic)]
            if len(found) > limit or len(page) < HISTORY_PAGE:
                break
            before = page[-1].position
        else:
            return found[:limit][::-1], True
        return found[:limit][::-1], len(found) > limit

    @property
    def not_ready_reason(self) -> str | None:
        if not self._readers:
            return "not started"
        for reader in self._readers.values():
            if reader.deaf_reason is not None:
                return f"shard {reader.shard}: {reader.deaf_reason}"
        return None


class PlainFeed:
    """One listener over a broker's `get_message`. What the broker loses is lost; the listener itself never ends."""

    def __init__(self, broker: BrokerInterface, channel: str, *, on_batch: OnBatch, settle: Settle) -> None:
        self._broker = broker
        self._channel = channel
        self._on_batch = on_batch
        self._settle = settle
        self._outgoing: asyncio.Queue[Pending] = asyncio.Queue(maxsize=10_000)
        self._tasks: list[asyncio.Task[None]] = []
        self.not_ready_reason: str | None = "not started"

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._publish())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.not_ready_reason = "stopped"
        await self._broker.disconnect()

    def submit(self, pending: Pending) -> None:
        pending.since = asyncio.get_running_loop().time()
        try:
            self._outgoing.put_nowait(pending)
        except asyncio.QueueFull:
            raise Overloaded("too many messages wait to be published; send again later") from None

    def follow(self, pattern: str) -> Sequence[ShardReader]:
        return ()

    def unfollow(self, pattern: str) -> None:
        """Everything is heard anyway."""

    async def history(self, topic: str, before: str, limit: int) -> tuple[list[Entry], bool]:
        raise NotAllowed("this service stores no messages")

    async def _publish(self) -> None:
        while True:
            pending = await self._outgoing.get()
            try:
                await self._broker.publish(self._channel, _text_of(pending))
            except Exception as exc:
                logger.exception("publishing failed")
                pending.error = BrokerError(f"not published: {exc!r}")
            self._settle([pending])

    async def _listen(self) -> None:
        wait = delays()
        while True:
            try:
                await self._broker.connect()
                await self._broker.subscribe(self._channel)
                self.not_ready_reason = None
                while True:
                    message = await self._broker.get_message()
                    if message is None:
                        await asyncio.sleep(0.01)  # a broker may answer at once when there is nothing
                        continue
                    conn_id = message.conn_id
                    conn_ids = (conn_id,) if isinstance(conn_id, str) else tuple(conn_id or ())
                    fields = message.__serialize__()  # a broker may give the same `Message` to several listeners
                    fields.pop("conn_id", None)
                    self._on_batch([Entry("", message.topic or "", encode(fields), conn_ids)])
                    wait = delays()
            except Exception as exc:
                self.not_ready_reason = f"not hearing the broker: {exc!r}"
                logger.exception("listening to the broker failed; trying again")
            await asyncio.sleep(next(wait))


def _text_of(pending: Pending) -> str:
    """The JSON text that `BrokerInterface.publish` gets: the body, with the connections addressed."""
    record = pending.record
    if not record.conn_ids:
        return record.body.decode()
    return record.body[:-1].decode() + ',"conn_id":' + encode(record.conn_ids).decode() + "}"
