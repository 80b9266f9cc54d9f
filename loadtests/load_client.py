"""`LoadClient`: the C program in `client/`, started and told what to do; and what it measured."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .contender import Conversation
from .stack import pinned, stop

MAX_CLIENT_CPU: Final = 0.8
"""A step in which the client used more of its core says nothing about the server."""


class ClientFailed(Exception):
    """The client ended, or did not answer in time."""


@dataclass(frozen=True)
class Load:
    """Connections are spread over the rooms in turn; publishers are the first of them, so they hear their room too."""

    connections: int
    rooms: int
    publishers: int
    body_bytes: int = 120


class Answer:
    """What the client printed for one command: figures by name."""

    def __init__(self, figures: Mapping[str, Any]) -> None:
        self.figures = figures

    def __getitem__(self, name: str) -> Any:
        return self.figures[name]

    @property
    def client_cpu(self) -> float:
        """Share of its core."""
        return float(self["client_cpu_seconds"] / self["seconds"]) if self["seconds"] else 0.0

    def cpu_seconds(self, pids: Iterable[int]) -> float:
        return float(sum(one["cpu_seconds"] for one in self["processes"] if one["pid"] in set(pids)))

    def total(self, name: str, pids: Iterable[int]) -> int:
        return int(sum(one[name] for one in self["processes"] if one["pid"] in set(pids)))

    @property
    def missing(self) -> int:
        return int(self["expected"] - self["delivered"])

    @property
    def receivers(self) -> float:
        """Of one message, on average."""
        return float(self["expected"] / self["sent"]) if self["sent"] else 0.0

    @property
    def planned(self) -> float:
        """Deliveries in the measured time, if none was late."""
        return float(self["rate"] * self["seconds"] * self.receivers)

    @property
    def deliveries_per_second(self) -> float:
        return float(self["delivered_measured"] / self["seconds"]) if self["seconds"] else 0.0

    def fault(self, p99_limit_ms: float) -> str:
        """Why the rate did not hold; empty when it did."""
        if self["lost_connections"]:
            return f"{self['lost_connections']} connections lost ({self['first_loss']})"
        for name in ("duplicates", "disordered", "misdelivered"):
            if self[name]:
                return f"{self[name]} deliveries {name}"
        if self["gave_up"]:
            return "fell behind for good"
        if self["delivered_measured"] < 0.95 * self.planned - 2 * self.receivers:
            return f"{self.deliveries_per_second:,.0f} of {self.planned / self['seconds']:,.0f} deliveries/s"
        if self.missing:
            return f"{self.missing} of {self['expected']} deliveries missing"
        if self["p99_ms"] > p99_limit_ms:
            return f"p99 {self['p99_ms']:.0f} ms"
        return ""

    @property
    def left_nothing(self) -> bool:
        """Whether the server is as if the step had never been."""
        return not self.missing and not self["gave_up"] and not self["lost_connections"]


class LoadClient:
    """Speaks a conversation with the server at a port. The processes in `watch` are accounted for."""

    def __init__(
        self,
        binary: Path,
        core: int,
        port: int,
        load: Load,
        conversation: Conversation,
        *,
        joined: bool = True,
        watch: Iterable[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            [binary],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=pinned(core),
        )
        self._unread = b""
        lines = [f"port {port}", f"path {conversation.path}", f"publish {conversation.publish}"]
        lines += [f"header {header}" for header in conversation.headers]
        for line in conversation.greet + (conversation.join if joined else ()):
            lines.append(f"{'say' if line.startswith('> ') else 'hear'} {line[2:]}")
        if conversation.ask:
            lines += [f"ask {conversation.ask}", f"answer {conversation.answer}"]
        lines += [f"connections {load.connections}", f"rooms {load.rooms}", f"publishers {load.publishers}"]
        lines += [f"body {load.body_bytes}", *(f"watch {pid}" for pid in watch)]
        self._say("\n".join(lines))

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # it resets its connections and ends
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        stop(self._process)
        self._process.stdout.close()

    def open(self, at_once: int = 64, patience_seconds: float = 60.0) -> Answer:
        """Open all connections, at most `at_once` handshakes at a time, until each is ready."""
        return self._ask(f"open {at_once} {patience_seconds}", patience_seconds)

    def settle(self, patience_seconds: float = 20.0) -> Answer:
        """Publish until everybody hears everything."""
        return self._ask(f"settle {patience_seconds}", 2 * patience_seconds)

    def step(
        self, rate: float, *, warm: float, seconds: float, drain: float = 2.0, give_up_ms: float = 2000.0
    ) -> Answer:
        """Publish `rate` messages a second for `warm` and then, measured, for `seconds`; wait for the rest.

        Ends early when a message took more than `give_up_ms`: the server will not catch up.
        """
        return self._ask(f"step {rate} {warm} {seconds} {drain} {give_up_ms}", warm + seconds + 5 * drain)

    def idle(self, seconds: float) -> Answer:
        return self._ask(f"idle {seconds}", seconds)

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ClientFailed(f"the client ended with {self._process.wait()}") from None

    def _ask(self, command: str, lasts_seconds: float) -> Answer:
        self._say(command)
        deadline = time.monotonic() + lasts_seconds + 20
        output = self._process.stdout
        assert output is not None
        while b"\n" not in self._unread:
            readable, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise ClientFailed(f"no answer to {command!r}")
            read = os.read(output.fileno(), 65_536)
            if not read:
                raise ClientFailed(f"the client ended with {self._process.wait()} at {command!r}")
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return Answer(json.loads(line))
