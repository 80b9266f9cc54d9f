"""`WebSocketUser`: a Locust user with one WebSocket, which a greenlet of its own reads.

Import it after gevent has patched the process (`__main__` does it first, and so does the `locust` command).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any, ClassVar

import gevent
import orjson
from locust import User
from locust.env import Environment

from . import locust_stats
from .websocket import HandshakeFailed, WebSocket, WebSocketClosed

STICKY_COOKIE = "chat_worker"
CONNECT_SECONDS = 15


class WebSocketUser(User):
    """Connects with a bearer token, keeps the load balancer's cookie and presents it when it comes back."""

    abstract = True

    url: ClassVar[str]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.token = ""
        self.worker = ""
        """The worker that said `welcome` last."""
        self.socket: WebSocket | None = None
        """`None` while there is no connection."""
        self._cookie = ""
        self._leaving = False
        self._reader: gevent.Greenlet[[], None] | None = None

    @abstractmethod
    def on_message(self, message: dict[str, Any], length: int, now_ns: int) -> None:
        """One message came at `now_ns` (monotonic clock), `length` bytes long. Runs in the reader's greenlet."""

    @abstractmethod
    def on_unreadable(self, error: Exception) -> None:
        """What came is no message, or one without what it needs."""

    @abstractmethod
    def on_lost(self, closed: WebSocketClosed) -> bool:
        """The connection ended without being asked to. Returns whether there is a new one."""

    def connect(self) -> float:
        """Open the connection and wait for `welcome`. Returns its milliseconds; raises `HandshakeFailed`."""
        headers = {"Authorization": f"Bearer {self.token}"}
        if self._cookie:
            headers["Cookie"] = f"{STICKY_COOKIE}={self._cookie}"
        begun = time.monotonic_ns()
        try:
            with gevent.Timeout(CONNECT_SECONDS, HandshakeFailed(f"no welcome within {CONNECT_SECONDS} s")):
                socket = WebSocket.connect(self.url, headers=headers, timeout_seconds=CONNECT_SECONDS)
                early = self._welcome(socket)
        except HandshakeFailed as error:
            locust_stats.record("connect", _milliseconds(begun), error=error)
            raise
        milliseconds = _milliseconds(begun)
        locust_stats.record("connect", milliseconds)
        self._cookie = socket.cookies.get(STICKY_COOKIE, self._cookie)
        self.socket = socket
        self._handle(early)
        return milliseconds

    def read(self) -> None:
        """Start the greenlet that reads, for this connection and those that replace it."""
        self._leaving = False
        self._reader = gevent.spawn(self._read)

    def disconnect(self) -> None:
        """Close the connection on purpose and wait until its reader has ended."""
        self._leaving = True
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        if self._reader is not None:
            self._reader.join(timeout=1)
            self._reader.kill()

    def on_stop(self) -> None:
        self.disconnect()

    def _welcome(self, socket: WebSocket) -> list[bytes]:
        """Take the `welcome`; returns what came along with it."""
        try:
            first, *early = socket.receive()
            welcome = orjson.loads(first)
            if welcome["type"] != "welcome":
                raise ValueError(f"the server began with {first[:100]!r} instead of a welcome")
            self.worker = str(welcome["worker"])
        except WebSocketClosed as closed:
            socket.close()
            raise HandshakeFailed(f"closed before the welcome: {closed}") from closed
        except (KeyError, TypeError, ValueError) as error:
            socket.close()
            raise HandshakeFailed(f"no readable welcome: {error}") from error
        return early

    def _read(self) -> None:
        while self.socket is not None:
            try:
                while True:
                    self._handle(self.socket.receive())
            except WebSocketClosed as closed:
                if self._leaving:
                    return
                self.socket.close()
                self.socket = None
                if not self.on_lost(closed):
                    return

    def _handle(self, texts: list[bytes]) -> None:
        now_ns = time.monotonic_ns()
        for text in texts:
            try:
                self.on_message(orjson.loads(text), len(text), now_ns)
            except (KeyError, TypeError, ValueError) as error:
                self.on_unreadable(error)


def _milliseconds(since_ns: int) -> float:
    return (time.monotonic_ns() - since_ns) / 1e6
