"""`ShardReader`: hears one shard's log, and knows when it does not.

A connection to the broker that looks healthy while nothing arrives is the classic fault of this field. So a reader that
heard nothing for a while publishes a probe through the normal publish path. If the probe does not come back within its
deadline, the reader says so (`deaf_reason`), reconnects with backoff, and goes on behind the last position that it
handed over: nothing is lost on the way, nothing comes twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from .backoff import delays
from .brokers.interface import PROBE_TOPIC, Entry, Extent, LogBroker, Record
from .exceptions import BrokerError
from .metrics import LOG_LAG_SECONDS, READER_FAILURES
from .positions import parse_position
from .recovery import Tail

logger = logging.getLogger(__name__)

PROBE: Final = Record(PROBE_TOPIC, b'{"type":"probe"}')

READ_LIMIT: Final = 2_000
"""Entries in one batch at most: bounds how long one batch keeps the event loop."""


class ShardReader:
    """Reads a shard for ever and hands each batch to `on_batch`, which must not wait.

    `on_lost` is called when the log began a new life, or lost entries that had not been read: its subscribers have a
    hole that no reading can fill.
    """

    def __init__(
        self,
        broker: LogBroker,
        channel: str,
        shard: int,
        *,
        on_batch: Callable[[Sequence[Entry]], None],
        on_lost: Callable[[ShardReader], None],
        publish: Callable[[Record, int], Awaitable[str]],
        probe_seconds: float | None,
        answer_seconds: float,
    ) -> None:
        self.shard = shard
        self.position = ""
        self.epoch = ""
        self.tail = Tail()
        self.deaf_reason: str | None = "the log was not heard yet"
        self.heard_at = time.monotonic()
        """When something last came from the log: a message, or a probe."""
        self.followers = 0
        """How many patterns on this worker need the shard."""
        self._passed = 0
        """Entries of the log's whole life up to `position`: tells whether any was given up before it was read."""
        self._broker = broker
        self._channel = channel
        self._on_batch = on_batch
        self._on_lost = on_lost
        self._publish = publish
        self._probe_seconds = probe_seconds
        self._answer_seconds = answer_seconds
        self._opened = asyncio.Event()
        self._moved: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"reader of shard {self.shard}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()
            # More than once: before Python 3.12 a library's `asyncio.wait_for` may swallow a cancellation.
            await asyncio.wait([task], timeout=1)

    async def opened(self) -> None:
        """Return when `position` and `epoch` are known. Raises `BrokerError` when that takes too long."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._opened.wait()
        except TimeoutError:
            raise BrokerError(f"the log cannot be read now: {self.deaf_reason}") from None

    async def reached(self, position: str) -> None:
        """Return when everything up to a position was handed over."""
        wanted = parse_position(position)
        while not self.position or parse_position(self.position) < wanted:
            if self._moved is None:
                self._moved = asyncio.Event()
            await self._moved.wait()

    async def extent(self) -> Extent:
        return await self._broker.extent(self._channel, self.shard, known=(self.position, self.epoch))

    async def page(self, after: str, until: str, *, limit: int) -> list[Entry]:
        return await self._broker.range(self._channel, self.shard, after, until, limit=limit)

    async def _run(self) -> None:
        wait = delays()
        while True:
            heard = self.position
            try:
                await self._open()
                await self._listen()
            except (BrokerError, TimeoutError) as exc:
                self.deaf_reason = str(exc) or f"the broker did not answer within {self._answer_seconds} s"
                logger.warning("shard %d: not hearing the log: %s", self.shard, self.deaf_reason)
            except Exception as exc:
                self.deaf_reason = f"unforeseen: {exc!r}"
                logger.exception("shard %d: reading the log failed in an unforeseen way", self.shard)
            READER_FAILURES.inc()
            if self.position != heard:
                wait = delays()
            await asyncio.sleep(next(wait))
            await self._reconnect()

    async def _reconnect(self) -> None:
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._broker.reconnect()
        except Exception:
            logger.warning("shard %d: the old connections could not be closed", self.shard, exc_info=True)

    async def _open(self) -> None:
        async with asyncio.timeout(self._answer_seconds):
            extent = await self.extent()
        if not self.epoch:
            self.position, self.epoch = extent.last, extent.epoch
            self._passed = extent.added
            self.tail = Tail(extent.last)
            self._opened.set()
        else:
            self._check(extent)

    def _check(self, extent: Extent) -> None:
        """Notice that the log is not the one that was read so far, or gave up what was not read yet."""
        if (
            extent.epoch == self.epoch
            and parse_position(extent.last) >= parse_position(self.position)
            and extent.given_up <= self._passed
        ):
            return
        logger.error("shard %d: the log lost entries (epoch %s, was %s)", self.shard, extent.epoch, self.epoch)
        self.position, self.epoch = extent.last, extent.epoch
        self._passed = extent.added
        self.tail = Tail(extent.last)
        self._on_lost(self)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        idle_seconds = self._probe_seconds or 5.0
        checked = loop.time()
        probe = self._send_probe()
        answered = False
        listening = False
        try:
            while True:
                patience = idle_seconds if answered else self._answer_seconds
                async with asyncio.timeout(patience + self._answer_seconds):
                    entries = await self._broker.read(
                        self._channel, self.shard, self.position, limit=READ_LIMIT, wait_seconds=patience
                    )
                if entries:
                    self._hand_over(entries, listening)
                    answered = listening = True
                elif self._probe_seconds is not None:
                    # A silence asks for a probe; a silence after a probe is a fault.
                    if not answered or not probe.done() or probe.exception() is not None:
                        raise self._why_silent(probe)
                    probe = self._send_probe()
                    answered = False
                if loop.time() - checked > idle_seconds:
                    async with asyncio.timeout(self._answer_seconds):
                        self._check(await self.extent())
                    checked = loop.time()
        finally:
            probe.cancel()

    def _hand_over(self, entries: Sequence[Entry], listening: bool) -> None:
        stored = entries
        if not entries[-1].position:
            # What the first read finds beside the log was said before, to others.
            beside = [entry for entry in entries if listening and not entry.position and entry.topic != PROBE_TOPIC]
            stored = [entry for entry in entries if entry.position]
            entries = [*stored, *beside]
        if entries:
            self._on_batch(entries)
        if stored:
            self.position = stored[-1].position
            if self._moved is not None:
                self._moved.set()
                self._moved = None
            LOG_LAG_SECONDS.set(time.time() - parse_position(self.position)[0] / 1000)
            self._passed += len(stored)
            self.tail.extend(stored)
        self.deaf_reason = None
        self.heard_at = time.monotonic()

    def _send_probe(self) -> asyncio.Future[str]:
        probe = asyncio.ensure_future(self._publish(PROBE, self.shard))
        probe.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at when there is silence
        return probe

    def _why_silent(self, probe: asyncio.Future[str]) -> BrokerError:
        if not probe.done():
            return BrokerError(f"the probe was not stored within {self._answer_seconds} s")
        failure = probe.exception()
        if failure is not None:
            return BrokerError(f"the probe could not be published: {failure}")
        return BrokerError(f"the probe, stored at {probe.result()}, was not heard within {self._answer_seconds} s")
