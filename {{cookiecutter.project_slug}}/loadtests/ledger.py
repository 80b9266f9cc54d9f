"""`Ledger`: who was subscribed to what, from which position until when; every send, acknowledgement and delivery.

It does no I/O and reads no clock. What it writes down here, `audit.py` judges. It costs 4 bytes a delivery and some
100 bytes a message, whatever the number of receivers.
"""

from __future__ import annotations

from array import array

from .histogram import Histogram

UNKNOWN = ""
"""The position of a message that nobody has named yet."""


class Subscription:
    """One connection's subscription to a topic: what it received, in the order of arrival.

    It covers the positions behind `start` up to `end`; while it is open, `end` is `None` and it covers everything.
    A connection that came back and was recovered is a new subscription that starts where `previous` ended.
    """

    __slots__ = ("end", "latency", "previous", "received", "start", "topic", "user", "worker")

    def __init__(
        self,
        user: str,
        topic: int,
        worker: int,
        start: str,
        latency: list[Histogram],
        previous: Subscription | None,
    ) -> None:
        self.user = user
        self.topic = topic
        self.worker = worker
        self.start = start
        self.end: str | None = None
        self.received = array("I")
        self.latency = latency
        self.previous = previous


class Interval:
    """What happened between two calls of `Ledger.tick`. Latencies are from the intended send to the receipt."""

    __slots__ = ("acknowledged", "delivered", "other", "same", "sent")

    def __init__(self, sent: int, acknowledged: int, delivered: int, same: Histogram, other: Histogram) -> None:
        self.sent = sent
        self.acknowledged = acknowledged
        self.delivered = delivered
        self.same = same
        self.other = other


class Ledger:
    """Everything that is known about a run. Messages, topics and workers are numbers inside, names outside.

    Times are nanoseconds of one monotonic clock. Positions are the server's, `"ms-seq"`.
    """

    def __init__(self) -> None:
        self.workers: list[str] = []
        self.topics: list[str] = []
        self.epochs: list[set[str]] = []  # by topic
        self.sent_to: list[array[int]] = []  # by topic: its messages
        self.subscriptions: list[list[Subscription]] = []  # by topic
        # By message:
        self.topic_of = array("I")
        self.origin_of = array("H")
        self.intended_ns = array("q")
        self.acknowledged = bytearray()
        self.position_of: list[str] = []

        self.acknowledged_count = 0
        self.delivered_count = 0
        self.unrecovered = 0
        """Times that a client came back and was told `recovered: false`: a hole, but one that it knows of."""
        self.foreign = 0
        """Deliveries of messages that this run never sent."""
        self.position_conflicts = 0
        """Deliveries or acknowledgements that gave a message another position than was known."""
        self._numbers: dict[str, int] = {}
        self._worker_numbers: dict[str, int] = {}
        self._latency: list[list[Histogram]] = []  # [receiver][origin], since the last tick
        self._total_latency: dict[tuple[int, int], Histogram] = {}  # (origin, receiver), before the last tick
        self._ticked = (0, 0, 0)
        self._newest: list[tuple[int, int]] = []  # by topic: the highest acknowledged position

    # Who is there

    def open(
        self,
        user: str,
        topic: str,
        worker: str,
        position: str,
        *,
        epoch: str = "",
        previous: Subscription | None = None,
        recovered: bool = False,
    ) -> Subscription:
        """Note that `subscribed` came: from `position` on, everything in `topic` must reach this connection.

        A client that came back gives its `previous`, closed subscription and what the server answered. With
        `recovered` the new one starts where the old one ended; without it there is a hole that nobody is blamed for.
        """
        number = self._topic_number(topic)
        receiver = self._worker_number(worker)
        start = position
        if previous is not None:
            if previous.end is None:
                raise ValueError(f"{user} came back to {topic} without closing its previous subscription")
            if recovered:
                start = previous.end
            else:
                self.unrecovered += 1
                previous = None
        if epoch:
            self.epochs[number].add(epoch)
        subscription = Subscription(user, number, receiver, start, self._latency[receiver], previous)
        self.subscriptions[number].append(subscription)
        return subscription

    def close(self, subscription: Subscription) -> str:
        """Note that the connection is gone. Returns the position to resume from: the highest that it received.

        What came up to there must have come without a hole; what was still on its way was nobody's promise, unless
        the client comes back and is recovered.
        """
        highest = order(subscription.start)
        end = subscription.start
        for message in subscription.received:
            position = self.position_of[message]
            if (key := order(position)) > highest:
                highest, end = key, position
        subscription.end = end
        return end

    # What travels

    def send(self, topic: str, worker: str, intended_ns: int) -> int:
        """Note a message that goes out now through `worker`. Returns its number, which it must carry."""
        number = self._topic_number(topic)
        message = len(self.position_of)
        self.topic_of.append(number)
        self.origin_of.append(self._worker_number(worker))
        self.intended_ns.append(intended_ns)
        self.acknowledged.append(0)
        self.position_of.append(UNKNOWN)
        self.sent_to[number].append(message)
        return message

    def acknowledge(self, message: int, position: str) -> bool:
        """Note an `ack`. From now on the message must reach everybody. Returns whether it is the first one."""
        if not self._place(message, position) or self.acknowledged[message]:
            return False
        self.acknowledged[message] = 1
        self.acknowledged_count += 1
        topic = self.topic_of[message]
        self._newest[topic] = max(self._newest[topic], order(self.position_of[message]))
        return True

    def deliver(self, subscription: Subscription, message: int, position: str, now_ns: int) -> int | None:
        """Note what came in. Returns the latency in nanoseconds, `None` for a message that is not of this run."""
        if not self._place(message, position):
            return None
        subscription.received.append(message)
        self.delivered_count += 1
        latency = now_ns - self.intended_ns[message]
        subscription.latency[self.origin_of[message]].record(latency)
        return latency

    def crosses(self, subscription: Subscription, message: int) -> bool:
        """Whether the message was sent through another worker than the one that the receiver is connected to."""
        return self.origin_of[message] != subscription.worker

    # Where the run stands

    def tick(self) -> Interval:
        """Close an interval and begin the next one."""
        same, other = Histogram(), Histogram()
        for receiver, row in enumerate(self._latency):
            for origin, interval in enumerate(row):
                (same if origin == receiver else other).add(interval)
                self._total_latency.setdefault((origin, receiver), Histogram()).add(interval)
                interval.counts.clear()
        now = (len(self.position_of), self.acknowledged_count, self.delivered_count)
        sent, acknowledged, delivered = (new - old for new, old in zip(now, self._ticked, strict=True))
        self._ticked = now
        return Interval(sent, acknowledged, delivered, same, other)

    def latency(self, origin: int, receiver: int) -> Histogram:
        """All latencies between two workers so far."""
        whole = Histogram()
        whole.add(self._total_latency.get((origin, receiver), whole))
        whole.add(self._latency[receiver][origin])
        return whole

    def settled(self) -> bool:
        """Whether every message is acknowledged and every open subscription has received its topic's newest one.

        Where it is false, waiting can still help; where it is true, only a late, reordered message can.
        """
        if self.acknowledged_count < len(self.position_of):
            return False
        for newest, subscriptions in zip(self._newest, self.subscriptions, strict=True):
            for one in subscriptions:
                if one.end is not None or newest <= order(one.start):
                    continue
                if not one.received or order(self.position_of[one.received[-1]]) < newest:
                    return False
        return True

    def _place(self, message: int, position: str) -> bool:
        try:
            known = self.position_of[message] if message >= 0 else None
        except IndexError:
            known = None
        if known != position:
            if known is None:
                self.foreign += 1
                return False
            if known == UNKNOWN:
                order(position)
                self.position_of[message] = position
            else:
                self.position_conflicts += 1
        return True

    def _topic_number(self, topic: str) -> int:
        number = self._numbers.get(topic)
        if number is None:
            number = self._numbers[topic] = len(self.topics)
            self.topics.append(topic)
            self.epochs.append(set())
            self.sent_to.append(array("I"))
            self.subscriptions.append([])
            self._newest.append((0, 0))
        return number

    def _worker_number(self, worker: str) -> int:
        number = self._worker_numbers.get(worker)
        if number is None:
            number = self._worker_numbers[worker] = len(self.workers)
            self.workers.append(worker)
            for row in self._latency:
                row.append(Histogram())
            self._latency.append([Histogram() for _ in self.workers])
        return number


def order(position: str) -> tuple[int, int]:
    """What positions are ordered by. Raises `ValueError` for anything but `"ms-seq"`.

    The library has the same rule; the judge keeps its own.
    """
    milliseconds, dash, sequence = position.partition("-")
    if not dash:
        raise ValueError(f"a position is 'ms-seq', not {position[:50]!r}")
    return int(milliseconds), int(sequence)
