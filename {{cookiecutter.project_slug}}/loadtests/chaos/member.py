"""`Member`: one client of the crowd. Comes back as the library's client does, and keeps cookies as a browser does."""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidStatus

from distributed_websocket.backoff import delays
from distributed_websocket.client import ConnectionEnded, may_repeat_handshake
from distributed_websocket.client.events import Event, Refused
from distributed_websocket.client.handshake import Handshake
from distributed_websocket.client.link import Link

from .witness import Books, WitnessSession

STICKY_COOKIE = "chat_worker"
OPEN_SECONDS = 10
HEARTBEAT_SECONDS = 30
"""A client that does not read hears no pong either: after twice this, one that stalls gives up by itself."""

logger = logging.getLogger(__name__)
logging.getLogger("websockets.client").setLevel(logging.CRITICAL)  # lost connections are what this is about
logging.getLogger("distributed_websocket.client").setLevel(logging.ERROR)


class CookieHandshake(Handshake):
    """Presents the load balancer's cookie again, so that a client comes back to its worker."""

    def __init__(self, url: str, token: str, context: ssl.SSLContext | None, books: Books) -> None:
        super().__init__(url, token, HEARTBEAT_SECONDS)
        self._address = url
        self._authorization = f"Bearer {token}"
        self._ssl = context
        self._books = books
        self.cookie = ""
        self.connection: ClientConnection | None = None
        """The newest."""

    async def attempt(self) -> ClientConnection | None:
        headers = {"Authorization": self._authorization}
        if self.cookie:
            headers["Cookie"] = f"{STICKY_COOKIE}={self.cookie}"
        try:
            connection = await connect(
                self._address,
                additional_headers=headers,
                ssl=self._ssl,
                compression=None,
                proxy=None,
                open_timeout=OPEN_SECONDS,
                close_timeout=1,
                ping_interval=HEARTBEAT_SECONDS,
                ping_timeout=HEARTBEAT_SECONDS,
                max_size=None,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            self._refused(f"HTTP {status}")
            if not may_repeat_handshake(status):
                raise ConnectionEnded(f"the handshake was refused with {status}", status=status) from error
            return None
        except (OSError, InvalidHandshake) as error:
            self._refused(str(error) or type(error).__name__)
            return None
        assert connection.response is not None
        self.cookie = _cookie(connection.response.headers) or self.cookie
        self.connection = connection
        return connection

    def _refused(self, reason: str) -> None:
        self._books.tally.refused[reason] += 1


class Member:
    """Number `number` of the crowd. `run` keeps it there."""

    def __init__(
        self,
        number: int,
        topic: str,
        url: str,
        token: str,
        context: ssl.SSLContext | None,
        books: Books,
        recovers: bool,
    ) -> None:
        self.number = number
        self.topic = topic
        self.session = WitnessSession(name_of(number), topic, books, recovers=recovers)
        self.is_gone = False
        """Told not to come back, or not to be in the room."""
        self._books = books
        self._handshake = CookieHandshake(url, token, context, books)
        self._link = Link(self.session, self._handshake, token, delays, on_event=self._on_event, on_lost=self._on_lost)

    @property
    def is_there(self) -> bool:
        """Subscribed, with nothing missed."""
        return self.session.away_since_ns is None

    async def run(self) -> None:
        try:
            await self._link.run()
        except ConnectionEnded as end:
            self.is_gone = True
            self._books.tally.unreadable[f"a client may not come back: {end}"] += 1
        except Exception as error:
            logger.exception("a client failed in an unforeseen way")
            self.is_gone = True
            self._books.tally.unreadable[f"a client failed: {error!r}"] += 1

    def say(self, due_ns: int, text: str) -> None:
        self.session.say(due_ns, text)
        self._link.flush()

    def move(self, within_seconds: float) -> None:
        """Come back without the cookie, to whichever worker's turn it is."""
        self._handshake.cookie = ""
        with suppress(RuntimeError):  # it is about to come back anyway
            self._link.leave(within_seconds)

    def drop(self) -> None:
        """Lose the connection, without a goodbye."""
        if self._handshake.connection is not None:
            self._handshake.connection.transport.abort()

    def stall(self) -> None:
        """Take nothing more from the socket."""
        if self._handshake.connection is not None:
            self._handshake.connection.transport.pause_reading()

    def read_on(self) -> None:
        if self._handshake.connection is not None:
            self._handshake.connection.transport.resume_reading()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Refused):
            self.is_gone = self.is_gone or event.topic is not None
            self._books.tally.unreadable[f"refused for good: {event.code}: {event.detail}"] += 1

    def _on_lost(self) -> None:
        connection = self._handshake.connection
        if connection is not None:
            reason = f"{connection.close_code} {connection.close_reason or ''}".rstrip()
            self._books.tally.closes[reason] += 1


def name_of(number: int) -> str:
    return f"chaos-{number:05d}"


def _cookie(headers: Headers) -> str:
    jar: SimpleCookie = SimpleCookie()
    for line in headers.get_all("Set-Cookie"):
        with suppress(CookieError):
            jar.load(line)
    return jar[STICKY_COOKIE].value if STICKY_COOKIE in jar else ""
