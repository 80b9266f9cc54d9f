"""`WitnessSession`: a client's session that writes into the ledger what comes, before the client makes sense of it.

The client drops what comes twice; here that would hide a fault of the server.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

from distributed_websocket.client import ClientSession
from distributed_websocket.client.events import CaughtUp, Event, Subscribed

from ..ledger import Ledger, Subscription


@dataclass(slots=True)
class Tally:
    """What happened to all clients together during one fault, beside the messages."""

    recovered: int = 0
    """Times that a client came back and was told `recovered: true`."""
    handshakes: list[tuple[int, str]] = field(default_factory=list)
    """Monotonic nanoseconds and worker of each `welcome`."""
    closes: Counter[str] = field(default_factory=Counter)
    """Connections that ended, by close code and reason."""
    refused: Counter[str] = field(default_factory=Counter)
    """Handshakes that failed, by reason."""
    errors: Counter[str] = field(default_factory=Counter)
    """`error` messages, by code."""
    drain_seconds: float | None = None
    """The longest time over which workers asked their clients to leave."""
    unreadable: Counter[str] = field(default_factory=Counter)
    """What is not of the protocol, and clients that were told not to come back."""


class Books:
    """What all witnesses write into."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.tally = Tally()
        self.acknowledged_ns: dict[int, int] = {}
        """When the ack of each message came."""


class WitnessSession(ClientSession):
    """Subscribed to one topic. With `recovers` off it asks for nothing that it missed, and the ledger expects it all
    the same."""

    def __init__(self, user: str, topic: str, books: Books, *, recovers: bool) -> None:
        super().__init__()
        self.worker = ""
        """The worker that said `welcome` last."""
        self.away_since_ns: int | None = time.monotonic_ns()
        """The first sign that this connection ends; None when it is there and nothing is missed."""
        self.longest_wait_ns = 0
        """For an ack, an acknowledged message, or to be back: since `watch`."""
        self.times_lost = 0
        """Since `watch`."""
        self._user = user
        self._topic = topic
        self._books = books
        self._recovers = recovers
        self._numbers_by_ref: dict[str, int] = {}
        self._subscription: Subscription | None = None
        self._previous: Subscription | None = None
        self.subscribe(topic)

    def watch(self) -> None:
        """Forget the waits so far."""
        self.longest_wait_ns = 0
        self.times_lost = 0

    def say(self, due_ns: int, text: str) -> None:
        """Send a message that was due at `due_ns` (monotonic), now or when there is a connection again."""
        number = self._books.ledger.send(self._topic, self.worker, due_ns)
        self._numbers_by_ref[self.send(self._topic, {"n": number, "text": text})] = number

    def to_send(self) -> list[str]:
        texts = super().to_send()
        return texts if self._recovers else [_without_since(text) for text in texts]

    def disconnected(self) -> None:
        super().disconnected()
        self._leaves()
        self.times_lost += 1
        if self._subscription is not None:
            self._books.ledger.close(self._subscription)
            self._previous, self._subscription = self._subscription, None

    def received(self, text: str | bytes) -> list[Event]:
        now_ns = time.monotonic_ns()
        try:
            self._note(orjson.loads(text), now_ns)
        except (KeyError, TypeError, ValueError) as error:
            self._books.tally.unreadable[repr(error)] += 1
        events = super().received(text)
        # The first subscription of a client catches up with nothing.
        back = CaughtUp if self._previous is not None else Subscribed
        if self.away_since_ns is not None and any(isinstance(event, back) for event in events):
            self._waited(now_ns - self.away_since_ns)
            self.away_since_ns = None
        return events

    def _note(self, fields: dict[str, Any], now_ns: int) -> None:
        books = self._books
        match fields["type"]:
            case "send":
                self._note_delivery(fields, now_ns)
            case "ack":
                number = self._numbers_by_ref[fields["ref"]]
                if books.ledger.acknowledge(number, fields["id"]):
                    books.acknowledged_ns[number] = now_ns
                    self._waited(now_ns - books.ledger.intended_ns[number])
            case "subscribed":
                self._note_subscribed(fields)
            case "reconnect":
                books.tally.drain_seconds = max(books.tally.drain_seconds or 0, float(fields["within_seconds"]))
                self._leaves()
            case "welcome":
                self.worker = str(fields["worker"])
                books.tally.handshakes.append((now_ns, self.worker))
            case "error":
                books.tally.errors[str(fields["code"])] += 1

    def _note_delivery(self, fields: dict[str, Any], now_ns: int) -> None:
        if self._subscription is None:
            raise ValueError("a delivery before `subscribed`")
        number = fields["data"]["n"]
        self._books.ledger.deliver(self._subscription, number, fields["id"], now_ns)
        acknowledged_ns = self._books.acknowledged_ns.get(number)
        if acknowledged_ns is not None:
            self._waited(now_ns - acknowledged_ns)

    def _note_subscribed(self, fields: dict[str, Any]) -> None:
        ledger = self._books.ledger
        if self._subscription is not None:  # unasked: the worker lost its place in the log
            ledger.close(self._subscription)
            self._previous = self._subscription
        recovered = fields.get("recovered") is True
        self._books.tally.recovered += recovered
        self._subscription = ledger.open(
            self._user,
            fields["topic"],
            self.worker,
            fields["position"],
            epoch=fields["epoch"],
            previous=self._previous,
            recovered=recovered or not self._recovers,
        )

    def _leaves(self) -> None:
        if self.away_since_ns is None:
            self.away_since_ns = time.monotonic_ns()

    def _waited(self, nanoseconds: int) -> None:
        self.longest_wait_ns = max(self.longest_wait_ns, nanoseconds)


def _without_since(text: str) -> str:
    fields = orjson.loads(text)
    fields.pop("since", None)
    return orjson.dumps(fields).decode()
