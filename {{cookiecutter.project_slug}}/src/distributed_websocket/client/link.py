"""`Link`: keeps a session connected. One connection after the other, each with its reader and its writer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Final, NoReturn

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ..codes import may_reconnect
from .errors import ConnectionEnded
from .events import Drain, Event, Postponed, SubscriberEvent, TokenExpired
from .handshake import Handshake, Token
from .session import ClientSession

logger = logging.getLogger(__name__)

LASTING_SECONDS: Final = 2.0
"""A connection that lasted so long starts the backoff anew. One that is accepted and closed at once does not."""

LOST: Final = 1006
"""Ended without a close frame (RFC 6455 §7.4.1)."""


class Link:
    """Deals with what is about the connection itself, and hands all other events to `on_event`, which must not wait."""

    def __init__(
        self,
        session: ClientSession,
        handshake: Handshake,
        token: Token | None,
        backoff: Callable[[], Iterator[float]],
        *,
        on_event: Callable[[SubscriberEvent], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._session = session
        self._handshake = handshake
        self._token = token
        self._backoff = backoff
        self._on_event = on_event
        self._on_lost = on_lost
        self._to_send = asyncio.Event()
        # Of the connection that there is:
        self._stay: asyncio.Timeout
        self._group: asyncio.TaskGroup
        self._tasks: list[asyncio.Task[None]]
        self._retrying = False

    def flush(self) -> None:
        """Send what the session has to send."""
        self._to_send.set()

    def leave(self, within_seconds: float = 0.0) -> None:
        """End the connection at a random moment of this time, and come back."""
        self._stay.reschedule(asyncio.get_running_loop().time() + random.uniform(0, within_seconds))

    async def run(self) -> NoReturn:
        """Connect, and come back for ever. Raises `ConnectionEnded` when that is not to be."""
        loop = asyncio.get_running_loop()
        wait = self._backoff()
        while True:
            websocket = await self._handshake.attempt()
            if websocket is not None:
                opened = loop.time()
                end = await self._talk(websocket)
                if end is not None:
                    raise end
                self._on_lost()
                if loop.time() - opened > LASTING_SECONDS:
                    wait = self._backoff()
            await asyncio.sleep(next(wait))

    async def _talk(self, websocket: ClientConnection) -> ConnectionEnded | None:
        """Use a connection to its end. What is returned forbids to come back."""
        self._session.connected()
        self._retrying = False
        try:
            async with asyncio.TaskGroup() as self._group:
                self._tasks = []
                self._start(self._write(websocket))
                end = await self._read(websocket)
                for task in self._tasks:
                    task.cancel()
        finally:
            self._session.disconnected()
            await websocket.close()
        return end

    def _start(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(self._group.create_task(work))

    async def _read(self, websocket: ClientConnection) -> ConnectionEnded | None:
        try:
            async with asyncio.timeout(None) as self._stay:
                while True:
                    for event in self._understand(await websocket.recv()):
                        self._handle(event)
                    self.flush()
        except TimeoutError:
            return None  # it was left
        except ConnectionClosed:
            code, reason = websocket.close_code or LOST, websocket.close_reason or ""
            if may_reconnect(code):
                logger.info("the connection was closed with %d %s; coming back", code, reason)
                return None
            return ConnectionEnded(f"the server closed the connection with {code} {reason}".rstrip(), close_code=code)
        except ConnectionEnded as exc:
            return exc

    def _understand(self, text: str | bytes) -> list[Event]:
        try:
            return self._session.received(text)
        except (ValueError, KeyError, TypeError) as exc:
            raise ConnectionEnded(f"the server does not speak the protocol: {exc!r}") from exc

    async def _write(self, websocket: ClientConnection) -> None:
        with suppress(ConnectionClosed):  # the reader ends by the same, and knows why
            while True:
                self._to_send.clear()
                for text in self._session.to_send():
                    await websocket.send(text)
                await self._to_send.wait()

    def _handle(self, event: Event) -> None:
        match event:
            case Drain(within_seconds):
                self.leave(within_seconds)
            case TokenExpired():
                self._start(self._refresh())
            case Postponed():
                if not self._retrying:
                    self._retrying = True
                    self._start(self._retry())
            case _:
                self._on_event(event)

    async def _retry(self) -> None:
        wait = self._backoff()
        while self._session.refused:
            await asyncio.sleep(next(wait))
            self._session.retry()
            self.flush()
        self._retrying = False

    async def _refresh(self) -> None:
        """Send a fresh token. Without one the server ends the connection, and the next handshake asks again."""
        if not callable(self._token):
            return
        try:
            self._session.authenticate(await self._token())
        except Exception as exc:
            logger.warning("no fresh token for this connection: %r", exc)
        self.flush()
