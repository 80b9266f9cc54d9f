"""`audit`: judges a ledger. Which acknowledged message should have reached whom, and what came instead. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

from .histogram import Histogram
from .ledger import Ledger, Subscription, order

EXAMPLES_PER_PAIR = 20
"""Missing messages that are named for each pair of workers; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Missing:
    """An acknowledged message that somebody should have received and did not."""

    message: int
    position: str
    topic: str
    user: str


@dataclass(slots=True)
class Pair:
    """What went from one worker's clients to another's. Counted are deliveries: one message to one receiver."""

    origin: str
    receiver: str
    expected: int = 0
    delivered: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    latency: Histogram = field(default_factory=Histogram)
    examples: list[Missing] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.expected - self.delivered


@dataclass(slots=True)
class Audit:
    """The judgement of a ledger. Counted are deliveries, where nothing else is said."""

    pairs: dict[tuple[str, str], Pair]
    """By (origin worker, receiver worker), all of them, in the order of their names."""
    sent: int
    """Messages."""
    acknowledged: int
    """Messages."""
    unrecovered: int
    """Clients that came back and were told of a hole."""
    foreign: int
    """Deliveries of messages that this run never sent."""
    position_conflicts: int
    """Times that one message had two positions."""
    stale: int = 0
    """At or before the position that `subscribed` named."""
    misrouted: int = 0
    """In a topic that they were not sent to."""
    shared_positions: int = 0
    """Messages acknowledged at a position that another message of the topic has."""
    split_topics: list[str] = field(default_factory=list)
    """Topics whose subscribers were told different epochs: their workers do not read the same log."""

    @property
    def expected(self) -> int:
        return sum(pair.expected for pair in self.pairs.values())

    @property
    def delivered(self) -> int:
        return sum(pair.delivered for pair in self.pairs.values())

    @property
    def missing(self) -> int:
        return self.expected - self.delivered

    @property
    def duplicates(self) -> int:
        return sum(pair.duplicates for pair in self.pairs.values())

    @property
    def out_of_order(self) -> int:
        return sum(pair.out_of_order for pair in self.pairs.values())

    @property
    def otherwise_wrong(self) -> int:
        """Deliveries and positions that there should not be, beside those of `pairs`."""
        return self.stale + self.misrouted + self.foreign + self.position_conflicts + self.shared_positions

    @property
    def complete(self) -> bool:
        """Whether every message is acknowledged and has reached everybody."""
        return self.acknowledged == self.sent and not self.missing

    @property
    def ratio(self) -> float | None:
        """Delivered ÷ expected, or `None` when nothing was expected."""
        return self.delivered / self.expected if self.expected else None

    def latency(self, *, same_worker: bool) -> Histogram:
        return Histogram.merged(
            pair.latency for pair in self.pairs.values() if (pair.origin == pair.receiver) is same_worker
        )


class _Topic:
    """A topic's acknowledged messages in their order, with a running count of them by origin worker."""

    def __init__(self, ledger: Ledger, number: int) -> None:
        placed = sorted(
            (order(ledger.position_of[message]), message)
            for message in ledger.sent_to[number]
            if ledger.acknowledged[message]
        )
        self.keys = [key for key, _ in placed]
        self.messages = array("I", (message for _, message in placed))
        self.shared_positions = len(self.keys) - len(set(self.keys))
        self._sent_before = [array("I", [0]) for _ in ledger.workers]
        for message in self.messages:
            origin = ledger.origin_of[message]
            for worker, counts in enumerate(self._sent_before):
                counts.append(counts[-1] + (worker == origin))

    def covered(self, subscription: Subscription) -> tuple[int, int]:
        """The range of `messages` that the subscription must have received."""
        low = bisect_right(self.keys, order(subscription.start))
        high = len(self.keys) if subscription.end is None else bisect_right(self.keys, order(subscription.end))
        return low, max(low, high)

    def sent_by(self, worker: int, low: int, high: int) -> int:
        return self._sent_before[worker][high] - self._sent_before[worker][low]


def audit(ledger: Ledger) -> Audit:
    """Judge what the ledger holds now. It can go on, and be judged again."""
    names = sorted(enumerate(ledger.workers), key=lambda one: natural(one[1]))
    grid = {
        (origin, receiver): Pair(origin_name, receiver_name, latency=ledger.latency(origin, receiver))
        for origin, origin_name in names
        for receiver, receiver_name in names
    }
    result = Audit(
        pairs={(pair.origin, pair.receiver): pair for pair in grid.values()},
        sent=len(ledger.position_of),
        acknowledged=ledger.acknowledged_count,
        unrecovered=ledger.unrecovered,
        foreign=ledger.foreign,
        position_conflicts=ledger.position_conflicts,
        split_topics=[topic for topic, epochs in zip(ledger.topics, ledger.epochs, strict=True) if len(epochs) > 1],
    )
    for number in range(len(ledger.topics)):
        topic = _Topic(ledger, number)
        result.shared_positions += topic.shared_positions
        for subscription in ledger.subscriptions[number]:
            low, high = topic.covered(subscription)
            for origin, _ in names:
                grid[origin, subscription.worker].expected += topic.sent_by(origin, low, high)
            if subscription.received == topic.messages[low:high]:  # the usual case, compared at memory speed
                for origin, _ in names:
                    grid[origin, subscription.worker].delivered += topic.sent_by(origin, low, high)
            else:
                _judge(ledger, subscription, topic.messages[low:high], grid, result)
    return result


def _judge(
    ledger: Ledger,
    subscription: Subscription,
    expected: array[int],
    grid: dict[tuple[int, int], Pair],
    result: Audit,
) -> None:
    """What is wrong with a subscription that did not receive just what it should have, in order."""
    seen: set[int] = set()
    start = highest = order(subscription.start)
    for message in subscription.received:
        pair = grid[ledger.origin_of[message], subscription.worker]
        if ledger.topic_of[message] != subscription.topic:
            result.misrouted += 1
            continue
        if message in seen:
            pair.duplicates += 1
            continue
        seen.add(message)
        key = order(ledger.position_of[message])
        if key <= start and _received_before(subscription, message):
            pair.duplicates += 1
        elif key <= start:
            result.stale += 1
        elif key < highest:
            pair.out_of_order += 1
        else:
            highest = key
    for message in expected:
        pair = grid[ledger.origin_of[message], subscription.worker]
        if message in seen:
            pair.delivered += 1
        elif len(pair.examples) < EXAMPLES_PER_PAIR:
            pair.examples.append(
                Missing(message, ledger.position_of[message], ledger.topics[subscription.topic], subscription.user)
            )


def _received_before(subscription: Subscription, message: int) -> bool:
    previous = subscription.previous
    while previous is not None:
        if message in previous.received:
            return True
        previous = previous.previous
    return False


def natural(name: str) -> tuple[str, int]:
    """chat-2 before chat-10."""
    stem, _, number = name.rpartition("-")
    return (stem, int(number)) if number.isdecimal() else (name, 0)
