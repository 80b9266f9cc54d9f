"""A model of a server, and a run of a client's session against it: what comes when is decided at random, by a seed."""

import json
import random
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any, Protocol

from distributed_websocket.client.events import Answered, Delivered, Event, Hole, Subscribed
from distributed_websocket.topics import matches

TOPICS = ("a/1", "a/2", "b/1", "b")
SPANS_SHARDS = "+/1"
PATTERNS = ("a/1", "a/+", "#", "b/#", SPANS_SHARDS)


class Session(Protocol):
    """`ClientSession`, as far as it is run here."""

    @property
    def refused(self) -> bool: ...

    def connected(self) -> None: ...

    def disconnected(self) -> None: ...

    def subscribe(self, topic: str) -> None: ...

    def pause(self, topic: str) -> None: ...

    def resume(self, topic: str) -> None: ...

    def send(self, topic: str, data: Any) -> str: ...

    def retry(self) -> None: ...

    def to_send(self) -> list[str]: ...

    def received(self, text: str) -> list[Event]: ...


class Model:
    """One log, one connection, all freedom that the protocol leaves: replays in pieces, live messages in between."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.log: list[str] = []
        """Topics; the position of an entry is its index."""
        self.trimmed = 0
        self.stored: dict[str, int] = {}
        self.connect()

    def connect(self) -> None:
        self.requests: deque[dict[str, Any]] = deque()
        self.answers: deque[str] = deque()
        self.live: set[str] = set()
        self.replay: tuple[str, int] | None = None

    def say(self, **fields: Any) -> None:
        self.answers.append(json.dumps(fields))

    def publish(self, topic: str) -> int:
        self.log.append(topic)
        if matches(topic, self.live):
            self.say(type="send", topic=topic, id=f"{len(self.log) - 1}-0")
        return len(self.log) - 1

    def step(self) -> None:
        if self.replay is not None:
            self.replay_a_piece(*self.replay)
        elif self.requests:
            request = self.requests.popleft()
            if self.chance.random() < 0.1:
                self.say(type="error", code="overloaded", detail="", ref=request["ref"])
            else:
                getattr(self, request["type"])(request["topic"], request)

    def replay_a_piece(self, pattern: str, index: int) -> None:
        end = min(index + self.chance.randint(1, 4), len(self.log))
        for position in range(index, end):
            if matches(self.log[position], pattern):
                self.say(type="send", topic=self.log[position], id=f"{position}-0")
        self.replay = (pattern, end)
        if end == len(self.log):
            self.replay = None
            self.live.add(pattern)

    def subscribe(self, topic: str, request: dict[str, Any]) -> None:
        answer = {"type": "subscribed", "topic": topic, "epoch": "one", "ref": request["ref"]}
        since = request.get("since")
        self.live.discard(topic)
        if since is not None and int(since["position"].split("-")[0]) + 1 >= self.trimmed:
            self.say(**answer, position=since["position"], recovered=True)
            self.replay = (topic, int(since["position"].split("-")[0]) + 1)
            return
        if topic == SPANS_SHARDS:
            answer["epoch"] = None
        self.say(**answer, position=None if topic == SPANS_SHARDS else f"{len(self.log) - 1}-0", recovered=False)
        self.live.add(topic)

    def unsubscribe(self, topic: str, request: dict[str, Any]) -> None:
        self.live.discard(topic)
        self.say(type="unsubscribed", topic=topic, ref=request["ref"])

    def send(self, topic: str, request: dict[str, Any]) -> None:
        if request["ref"] not in self.stored:
            self.stored[request["ref"]] = self.publish(topic)
        self.say(type="ack", ref=request["ref"], id=f"{self.stored[request['ref']]}-0")


class Run:
    """A session against the model, driven at random."""

    def __init__(self, session: Session, seed: int) -> None:
        self.chance = random.Random(seed)
        self.model = Model(self.chance)
        self.model.publish("b")
        self.session = session
        self.session.connected()
        self.paused: set[str] = set()
        self.delivered: dict[str, list[int | None]] = defaultdict(list)
        """Positions by subscription; None for a hole."""
        self.acks: dict[str, int] = {}
        self.holes = 0

    def exchange(self, most: int) -> None:
        self.model.requests += [json.loads(text) for text in self.session.to_send()]
        for _ in range(self.chance.randint(0, most)):
            self.model.step()
        for _ in range(self.chance.randint(0, most)):
            if self.model.answers:
                text = self.model.answers.popleft()
                for event in self.session.received(text):
                    self.note(event, text)
        if self.session.refused and self.chance.random() < 0.3:
            self.session.retry()

    def note(self, event: Event, text: str) -> None:
        match event:
            case Delivered(topic, message):
                self.delivered[topic].append(int(message["id"].split("-")[0]))
            case Hole(topic):
                self.delivered[topic].append(None)
                self.holes += 1
            case Subscribed(topic):
                position = json.loads(text)["position"]
                if position is not None and not self.delivered[topic]:
                    self.delivered[topic].append(int(position.split("-")[0]))
            case Answered(ref, answer) if answer["type"] == "ack":
                assert ref not in self.acks
                self.acks[ref] = int(answer["id"].split("-")[0])

    def disturb(self) -> None:
        what = self.chance.random()
        pattern = self.chance.choice(PATTERNS)
        if what < 0.05:
            self.session.disconnected()
            self.model.connect()
            self.session.connected()
        elif what < 0.1 and pattern not in self.paused:
            self.session.pause(pattern)
            self.paused.add(pattern)
        elif what < 0.2 and pattern in self.paused:
            self.session.resume(pattern)
            self.paused.discard(pattern)
        elif what < 0.5:
            self.model.publish(self.chance.choice(TOPICS))
        elif what < 0.6:
            self.session.send(self.chance.choice(TOPICS), "x")
        elif what < 0.605:
            self.model.trimmed = max(0, len(self.model.log) - 5)

    def settle(self) -> None:
        for pattern in self.paused:
            self.session.resume(pattern)
        for last in (False, True):
            for _ in range(500):
                self.exchange(20)
            for topic in TOPICS if not last else ():
                self.model.publish(topic)
        assert not self.model.requests
        assert not self.session.refused
        assert self.acks == self.model.stored

    def play(self) -> None:
        for pattern in PATTERNS:
            self.session.subscribe(pattern)
        for _ in range(400):
            self.disturb()
            self.exchange(3)
        self.settle()

    def faults(self) -> Iterator[str]:
        """What was not delivered, or not in order, and no hole told of it.

        A pattern that spans shards has an order for each topic only. After a hole, it may get some of what is missing.
        """
        for topic in filter(lambda topic: matches(topic, SPANS_SHARDS), TOPICS):
            of_topic = [at for at in self.delivered[SPANS_SHARDS] if at is not None and self.model.log[at] == topic]
            if sorted(set(of_topic)) != of_topic or of_topic[-1] != len(self.model.log) - 4 + TOPICS.index(topic):
                yield f"{topic} of {SPANS_SHARDS}: {of_topic}"
        for pattern, positions in self.delivered.items():
            if pattern == SPANS_SHARDS:
                continue
            for before, after in zip(positions, [*positions[1:], len(self.model.log)], strict=True):
                if before is None or after is None:
                    continue
                if after <= before:
                    yield f"{pattern}: {after} behind {before}"
                for missing in range(before + 1, after):
                    if matches(self.model.log[missing], pattern):
                        yield f"{pattern}: {missing} is missing"
