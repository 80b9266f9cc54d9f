"""What a worker hears from the others: a `Feed` takes what is published here and hands over what comes from everywhere.

LogFeed      over a `LogBroker`: one publisher, one reader per shard that this worker's subscribers need
PlainFeed    over any broker with the six coroutines: at most once, no positions
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

from .backoff import delays
from .brokers.interface import CONTROL_SHARD, PROBE_TOPIC, BrokerInterface, Entry, LogBroker, ReadsBatches, Record
from .exceptions import BrokerError, NotAllowed, Overloaded
from .message import Message, encode
from .metrics import READER_FAILURES
from .positions import parse_position
from .publishing import Pending, Publisher, Settle
from .reading import ShardReader
from .recovery import concerns

logger = logging.getLogger(__name__)

HISTORY_PAGE: Final = 1_000
"""Entries of the log read at once for a page of history: the log of a shard holds many topics."""

HISTORY_PAGES: Final = 10
"""After so many what was found will do: whoever asks goes on from there. Only who was given nothing could not."""

PROBE: Final = Record(PROBE_TOPIC, encode({"type": "send", "topic": PROBE_TOPIC}))
"""What a silent `PlainFeed` publishes: a message like any other, so that every broker passes it on. Nobody gets it."""

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

    @property
    def waiting_bytes(self) -> int:
        """Accepted, and not stored yet."""

    @property
    def silent_seconds(self) -> float:
        """Since the log was last heard; of several shards the worst."""


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
                on_batch=self._on_batch,
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
        found, before, pages = *await self._remembered(shard, topic, before, limit + 1), 0
        while len(found) <= limit:
            page = await self._broker.range_back(self._channel, shard, before, limit=HISTORY_PAGE)
            pages += 1
            found += [entry for entry in page if concerns(entry, topic)]
            if len(page) < HISTORY_PAGE:
                break
            if pages >= HISTORY_PAGES and found:  # who asks for more needs a message to ask from
                return found[:limit][::-1], True
            before = page[-1].position
        return found[:limit][::-1], len(found) > limit

    async def _remembered(self, shard: int, topic: str, before: str, limit: int) -> tuple[list[Entry], str]:
        """The newest before a position, newest first, as far as memory has them; and before what the log is to be read.

        Reading the log for a quiet topic means reading all others of its shard. Memory may hold what the log gave up,
        and lack what it has got just now, so the log's ends are looked at.
        """
        reader = self._readers.get(shard)
        if reader is None:
            return [], before
        epoch, heard, oldest = reader.epoch, reader.position, reader.tail.oldest
        if not oldest or (before and not parse_position(oldest) < parse_position(before) <= parse_position(heard)):
            return [], before
        remembered = reader.tail.before(topic, before, limit=limit)
        extent = await reader.extent()
        if extent.epoch != epoch or not extent.first:
            return [], before
        first = parse_position(extent.first)
        found = [entry for entry in reversed(remembered) if parse_position(entry.position) >= first]
        if not before and parse_position(extent.last) > parse_position(heard):
            newer = await reader.page(heard, extent.last, limit=HISTORY_PAGE)
            if len(newer) == HISTORY_PAGE:
                return [], before
            found = [entry for entry in newer if concerns(entry, topic)][::-1] + found
        return found, oldest

    @property
    def not_ready_reason(self) -> str | None:
        if not self._readers:
            return "not started"
        for reader in self._readers.values():
            if reader.deaf_reason is not None:
                return f"shard {reader.shard}: {reader.deaf_reason}"
        return None

    @property
    def waiting_bytes(self) -> int:
        return self.publisher.waiting_bytes

    @property
    def silent_seconds(self) -> float:
        now = time.monotonic()
        return max((now - reader.heard_at for reader in self._readers.values()), default=0.0)


class PlainFeed:
    """One listener over a broker's `get_message`, or `get_messages`. What the broker loses is lost.

    The listener itself never ends. After `probe_seconds` of silence (`None`: never) it publishes a probe; when that is
    not heard within `answer_seconds`, the worker is not ready, and the broker is connected to anew.
    """

    def __init__(
        self,
        broker: BrokerInterface,
        channel: str,
        *,
        on_batch: OnBatch,
        settle: Settle,
        probe_seconds: float | None = 5.0,
        answer_seconds: float = 2.0,
    ) -> None:
        self._broker = broker
        self._channel = channel
        self._on_batch = on_batch
        self._settle = settle
        self._probe_seconds = probe_seconds
        self._answer_seconds = answer_seconds
        self._outgoing: asyncio.Queue[Pending] = asyncio.Queue(maxsize=10_000)
        self._heard = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.not_ready_reason: str | None = "not started"
        self.waiting_bytes = 0  # it counts messages
        self._heard_at = time.monotonic()

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
            if pending.record is not PROBE:
                self._settle([pending])

    async def _listen(self) -> None:
        wait = delays()
        while True:
            self._heard.clear()
            try:
                await self._broker.connect()
                await self._broker.subscribe(self._channel)
                await self._hear_until_silent()
            except Exception as exc:
                self.not_ready_reason = f"not hearing the broker: {exc!r}"
                logger.exception("listening to the broker failed; trying again")
            READER_FAILURES.inc()
            if self._heard.is_set():
                wait = delays()
            await asyncio.sleep(next(wait))
            await self._leave()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._broker.disconnect()
        except Exception:
            logger.warning("the old connection to the broker could not be closed", exc_info=True)

    async def _hear_until_silent(self) -> NoReturn:
        """Raises what ended the hearing."""
        if self._probe_seconds is None:
            self.not_ready_reason = None
            await self._hear()
        tasks = [
            asyncio.create_task(self._hear(), name="hearing"),
            asyncio.create_task(self._watch(self._probe_seconds), name="watching"),
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self) -> NoReturn:
        batches = self._broker if isinstance(self._broker, ReadsBatches) else None
        while True:
            if batches is not None:
                messages = await batches.get_messages()
            else:
                message = await self._broker.get_message()
                messages = [] if message is None else [message]
            if not messages:
                # A broker may answer at once when there is nothing: let the others run.
                await asyncio.sleep(0.01)
                continue
            self._heard.set()
            self._heard_at = time.monotonic()
            self.not_ready_reason = None
            entries = [_entry_of(message) for message in messages if message.topic != PROBE_TOPIC]
            if entries:
                self._on_batch(entries)

    async def _watch(self, probe_seconds: float) -> NoReturn:
        """Raises `BrokerError` when a silence lasts and nothing is heard of a probe either."""
        while True:
            probe = Pending(PROBE)
            self._heard.clear()
            self.submit(probe)
            try:
                async with asyncio.timeout(self._answer_seconds):
                    await self._heard.wait()
            except TimeoutError:
                why = probe.error or f"the probe was not heard within {self._answer_seconds:g} s"
                raise BrokerError(str(why)) from None
            while self._heard.is_set():
                self._heard.clear()
                await asyncio.sleep(probe_seconds)

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._heard_at if self._probe_seconds is not None else 0.0


def _entry_of(message: Message) -> Entry:
    fields = message.__serialize__()  # a broker may give the same `Message` to several listeners
    fields.pop("conn_id", None)
    return Entry("", message.topic or "", encode(fields), message.conn_ids)


def _text_of(pending: Pending) -> str:
    """The JSON text that `BrokerInterface.publish` gets: the body, with the connections addressed."""
    record = pending.record
    if not record.conn_ids:
        return record.body.decode()
    return record.body[:-1].decode() + ',"conn_id":' + encode(record.conn_ids).decode() + "}"
