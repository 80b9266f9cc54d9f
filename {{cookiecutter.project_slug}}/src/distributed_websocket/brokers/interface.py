"""The seam between a worker and what connects it to the others.

    BrokerInterface        six coroutines: all that a broker of your own needs; RedisPubSubBroker has just these
     └── LogBroker         a broker that keeps a log per shard: batches, positions, epochs, what was missed
          ├── InMemoryBroker    one process
          └── RedisBroker       Redis Streams

A broker does I/O and nothing else: batching is in `publishing.py`, reading in `reading.py`, resuming in `recovery.py`.
"""

from __future__ import annotations

import inspect
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, TypedDict, runtime_checkable

import orjson

from ..message import RESERVED, Message
from ..topics import is_pattern, leading_levels

CONTROL_SHARD: Final = 0
"""The shard of what goes to everybody or to named connections, whatever its topic. Every worker reads it."""

START: Final = "0-0"
"""The position before the first entry of any log."""

PROBE_TOPIC: Final = "$probe"
"""Topic of the records by which a reader finds out whether it still hears: they wake every reader of the shard, but are
not kept in the log, which they would fill while nobody talks."""


class Record(NamedTuple):
    """What is appended to a log: a body (JSON object), its topic ("" for everybody) or the connections addressed."""

    topic: str
    body: bytes
    conn_ids: tuple[str, ...] = ()
    key: str = ""
    """Idempotency key: the same key within the broker's window is stored once. "" for none."""
    ephemeral: bool = False
    """Heard by whoever reads the shard now, and not kept: it has no place in the log, and nobody gets it later."""


class Entry(NamedTuple):
    """A record with its position in the log of its shard: `"ms-seq"`; "" for what no log keeps, such as probes."""

    position: str
    topic: str
    body: bytes
    conn_ids: tuple[str, ...] = ()

    @property
    def payload(self) -> bytes:
        """The JSON text that subscribers get: the body with its position, `id`, in front."""
        return b'{"id":"%b",%b' % (self.position.encode(), self.body[1:]) if self.position else self.body


class Extent(NamedTuple):
    """What the log of a shard holds at a moment."""

    epoch: str
    """Names the life of this log: another one after the log was lost or flushed."""
    last: str
    """The newest position ever given, also when that entry was trimmed since."""
    first: str
    """The oldest position still held; "" when the log is empty."""
    added: int
    """Entries ever appended."""
    given_up: int
    """How many of them are gone: trimmed by count or by age."""


class Place(NamedTuple):
    """A user in a topic."""

    topic: str
    user: str


class Member(TypedDict):
    """Who is in a topic: on which worker, and since when (Unix time in ms)."""

    user: str
    worker: str
    since: int


class BrokerInterface(ABC):
    """What connects the workers. Subclass it and give `broker_class=` to `WebSocketManager`.

    `publish` gets the JSON text of a message; `get_message` gives it back as a `Message` on every worker that
    subscribed to the channel, or `None` when there is none now. Such a broker delivers at most once.
    """

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def disconnect(self) -> None: ...

    @abstractmethod
    async def subscribe(self, channel: str) -> None: ...

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    async def publish(self, channel: str, message: Any) -> None: ...

    @abstractmethod
    async def get_message(self, **kwargs: Any) -> Message | None: ...


BrokerT = BrokerInterface


@runtime_checkable
class ReadsBatches(Protocol):
    """What a broker may have besides: all messages that are there at once, so that they are delivered in one go."""

    async def get_messages(self, **kwargs: Any) -> Sequence[Message]:
        """Waits a while for the first one; empty when there was none."""


COROUTINES: Final = ("connect", "disconnect", "subscribe", "unsubscribe", "publish", "get_message")


def is_valid_broker(candidate: Any) -> bool:
    """Whether a class or object has the six coroutines of `BrokerInterface` (it need not inherit from it)."""
    return all(inspect.iscoroutinefunction(getattr(candidate, name, None)) for name in COROUTINES)


class LogBroker(BrokerInterface):
    """A broker with a log per shard. Positions grow within a shard and order it; errors are raised as `BrokerError`.

    The first `shard_levels` levels of a topic decide its shard: with 1 all of `room/...` is one shard, with 2 each
    `room/NAME` lies with all below it, and the rooms spread. All processes of one service must have the same numbers.
    """

    def __init__(self, *, shards: int, shard_levels: int = 1) -> None:
        if shards < 1:
            raise ValueError(f"shards must be at least 1, not {shards}")
        if shard_levels < 1:
            raise ValueError(f"shard_levels must be at least 1, not {shard_levels}")
        self.shards = shards
        self.shard_levels = shard_levels
        self._read_to: dict[str, list[str]] = {}

    def shard_of(self, topic: str) -> int:
        """The shard of a topic, or of a pattern without a wildcard in its leading levels: a hash of those levels."""
        return zlib.crc32(leading_levels(topic, self.shard_levels).encode()) % self.shards if topic else CONTROL_SHARD

    def shards_of(self, pattern: str) -> Sequence[int]:
        """The shards that can hold messages of a pattern: one, or all when a leading level is a wildcard."""
        if is_pattern(leading_levels(pattern, self.shard_levels)):
            return range(self.shards)
        return (self.shard_of(pattern),)

    async def reconnect(self) -> None:
        """Use new connections: the old ones look healthy, but what should have come over them did not."""

    @abstractmethod
    async def append(self, channel: str, shard: int, records: Sequence[Record]) -> list[str]:
        """Store records in their order, in one round trip. Returns their positions.

        When it raises, each record may or may not be stored: only those with a key can be repeated safely.
        """

    @abstractmethod
    async def read(self, channel: str, shard: int, after: str, *, limit: int, wait_seconds: float) -> list[Entry]:
        """Up to `limit` entries behind `after`, in order; waits for the first one at most `wait_seconds`.

        Behind them comes what was said meanwhile and is not kept: ephemeral records and, where there is nothing else,
        a probe.
        """

    @abstractmethod
    async def extent(self, channel: str, shard: int, *, known: tuple[str, str] = ("", "")) -> Extent:
        """What the log holds now. Names a new epoch where there is no log yet.

        `known` is a position that was read, and its epoch: where the log has lost that entry, it begins a new epoch.
        """

    @abstractmethod
    async def range(self, channel: str, shard: int, after: str, until: str, *, limit: int) -> list[Entry]:
        """Up to `limit` entries with `after` < position <= `until`, oldest first."""

    @abstractmethod
    async def range_back(self, channel: str, shard: int, before: str, *, limit: int) -> list[Entry]:
        """Up to `limit` entries with position < `before` ("" for the end), newest first."""

    # Presence. A worker is named by its name and a token of this process of it, "chat-1#9f2c".

    @abstractmethod
    async def presence_change(
        self,
        channel: str,
        shard: int,
        worker: str,
        entered: Sequence[Place],
        left: Sequence[Place],
        *,
        lives_seconds: float,
    ) -> int:
        """Note who is in which topics by this worker's connections; it counts as a heartbeat too, and returns the same.

        `joined` is appended to the log for a user whom no other worker had in the topic, `left` for one whom no other
        worker has. Repeating a change changes nothing.
        """

    @abstractmethod
    async def presence_beat(self, channel: str, shard: int, worker: str, *, lives_seconds: float) -> int:
        """Say that this worker lives. Where it has lived for `lives_seconds`, make those leave whose heartbeat ended.

        Returns since when it lives without a gap, by the broker's clock. When that is not what it was, places of this
        worker may have been made to leave: enter them again.
        """

    @abstractmethod
    async def presence_members(self, channel: str, shard: int, topic: str, *, limit: int) -> tuple[list[Member], int]:
        """Up to `limit` members of a topic, one for each user, and how many there are."""

    # The six coroutines, on top of the log: for code that talks to a broker directly.

    async def subscribe(self, channel: str) -> None:
        """Get what is published on `channel` from now on, by `get_message`."""
        if channel not in self._read_to:
            self._read_to[channel] = [(await self.extent(channel, shard)).last for shard in range(self.shards)]

    async def unsubscribe(self, channel: str) -> None:
        self._read_to.pop(channel, None)

    async def publish(self, channel: str, message: Any) -> None:
        """Append a message: a `Message`, its dict, or its JSON text."""
        record = record_of(message)
        await self.append(channel, self.shard_of(record.topic), [record])

    async def get_message(self, *, wait_seconds: float = 1.0, **kwargs: Any) -> Message | None:
        """The next message of the subscribed channels; `None` after `wait_seconds` without one."""
        cursors = [(channel, shard) for channel, positions in self._read_to.items() for shard in range(len(positions))]
        for channel, shard in cursors:
            wait = wait_seconds / len(cursors)
            entries = await self.read(channel, shard, self._read_to[channel][shard], limit=1, wait_seconds=wait)
            if entries and entries[0].position:  # a probe has none
                self._read_to[channel][shard] = entries[0].position
                return message_of(entries[0])
        return None


def record_of(message: Any) -> Record:
    """The record of a `Message`, of its dict, or of its JSON text."""
    if isinstance(message, Message):
        parsed = message
    else:
        fields = orjson.loads(message) if isinstance(message, (str, bytes)) else message
        parsed = message_of_fields(fields)
    return Record(parsed.topic or "", parsed.body(), parsed.conn_ids)


def message_of(entry: Entry) -> Message:
    """The entry as a `Message`, its position as the field `id` of its data."""
    message = message_of_fields(orjson.loads(entry.payload))
    message.conn_id = list(entry.conn_ids) or None
    return message


def message_of_fields(fields: dict[str, Any]) -> Message:
    """The `Message` of a JSON object that a worker published."""
    return Message(
        type=fields.get("type", "send"),
        topic=fields.get("topic"),
        conn_id=fields.get("conn_id"),
        data={key: value for key, value in fields.items() if key not in RESERVED},
    )
