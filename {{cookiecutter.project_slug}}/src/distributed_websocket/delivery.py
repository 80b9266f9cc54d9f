"""From a batch of the log to the sockets: encode once, frame once, one write per connection and batch.

The receivers of each topic come from the topic index. Connections with the same topics in a batch share the same joined
bytes. What a connection's socket has not taken yet is bounded; beyond the bound the connection is ended, with a code
that says "come back and resume", so that one slow client costs the others neither time nor memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from fastapi import WebSocket, WebSocketDisconnect

from .brokers.interface import Entry
from .codes import CloseCode

if TYPE_CHECKING:
    from .connection import Connection
    from .tunnel import Tunnel

logger = logging.getLogger(__name__)

RAW_EXTENSION: Final = "distributed_websocket.raw"
"""Key in the ASGI scope's extensions under which `server.py` gives its `RawSocket`."""


def frame_text(payload: bytes) -> bytes:
    """An unmasked, unfragmented text frame (RFC 6455 §5.2), as a server sends it."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 65_536:
        return b"\x81\x7e%b%b" % (length.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (length.to_bytes(8, "big"), payload)


class Bundle:
    """JSON texts that go to a connection together, in order; framed and joined at most once for all who share it.

    `framed` has the frame of each, where they are made already.
    """

    __slots__ = ("_framed", "_texts", "joined", "payloads")

    def __init__(self, payloads: Sequence[bytes], framed: Sequence[bytes] | None = None) -> None:
        self.payloads = payloads
        self.joined: bytes | None = None
        """`frames`, once somebody asked for them: a property costs as much as the rest of a write in Python."""
        self._framed = framed
        self._texts: list[str] | None = None

    @property
    def size(self) -> int:
        """Bytes of the payloads, without framing."""
        return sum(map(len, self.payloads))

    @property
    def frames(self) -> bytes:
        if self.joined is None:
            self.joined = b"".join(map(frame_text, self.payloads) if self._framed is None else self._framed)
        return self.joined

    @property
    def texts(self) -> list[str]:
        if self._texts is None:
            self._texts = [payload.decode() for payload in self.payloads]
        return self._texts


class Receiver(Protocol):
    """Who takes a connection's messages in place of the ASGI application."""

    def on_message(self, text: str | None) -> None:
        """A whole text message, or `None` for a binary one."""

    def on_closed(self) -> None:
        """The connection is closed, or lost. Called once."""


class RawSocket(Protocol):
    """What a server must offer for pre-framed writes (`server.RawWebSocketProtocol` does)."""

    transport: asyncio.Transport

    @property
    def is_open(self) -> bool:
        """Whether the client is still there."""

    def splice(self, tunnel: Tunnel, answer: bytes) -> None:
        """Send `answer`, which ends the client's handshake, and give every byte of the client's to the tunnel."""

    def hand_over(self, receiver: Receiver) -> None:
        """Give every message to `receiver` from now on; the ASGI application may return and the connection stays."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write_frames(self, frames: bytes, max_unsent_bytes: int) -> bool:
        """Write whole frames, without waiting; nothing happens once the connection is closing.

        False, and nothing is written, when the client left more than `max_unsent_bytes` untaken.
        """

    @property
    def unsent_bytes(self) -> int:
        """Bytes handed to the transport that the client's socket has not taken yet."""

    def end(self, code: CloseCode) -> None:
        """Send a close frame behind what is unsent; abort if the client does not take it within a few seconds."""

    @property
    def end_code(self) -> int:
        """The close code of whoever closed first, once the connection has ended; 1006 for one that was lost."""

    async def drained(self) -> None:
        """Return when little is unsent, or the connection is lost."""


class Outbox(Protocol):
    """A connection's way out. `write` never waits; what it cannot send at once counts as unsent.

    Neither `write` nor `end` raises: whoever writes to many must not stop at the one that is broken.
    """

    end_code: CloseCode | None
    """What `end` was called with."""

    sent: int
    """Messages given to `write`, as long as the connection was open."""

    def write(self, bundle: Bundle) -> None: ...

    @property
    def unsent_bytes(self) -> int: ...

    def end(self, code: CloseCode) -> None: ...

    async def flushed(self) -> None:
        """Return when everything written so far was handed to the server, and the client has taken most of it."""


class RawOutbox:
    """Writes frames straight to the transport: the fast way."""

    __slots__ = ("_ended", "_max_unsent_bytes", "_socket", "_write_frames", "end_code", "sent")

    def __init__(self, socket: RawSocket, max_unsent_bytes: int) -> None:
        self._socket = socket
        self._write_frames = socket.write_frames  # looked up once, not for each of a thousand receivers
        self._max_unsent_bytes = max_unsent_bytes
        self._ended = False
        self.end_code: CloseCode | None = None
        self.sent = 0

    def write(self, bundle: Bundle) -> None:
        if self._ended:
            return
        self.sent += len(bundle.payloads)
        frames = bundle.joined
        if frames is None:
            frames = bundle.frames
        write_frames = self._write_frames  # calling a slot as a method costs CPython 3.11 a search of the type
        try:
            if not write_frames(frames, self._max_unsent_bytes):
                self.end(CloseCode.SLOW)
        except Exception:
            logger.exception("could not write to a client; ending its connection, it can resume")
            self.end(CloseCode.INTERNAL_ERROR)

    @property
    def unsent_bytes(self) -> int:
        return self._socket.unsent_bytes

    def end(self, code: CloseCode) -> None:
        if not self._ended:
            self._ended = True
            self.end_code = code
            try:
                self._socket.end(code)
            except Exception:
                logger.exception("could not end a connection")

    async def flushed(self) -> None:
        await self._socket.drained()


class AsgiOutbox:
    """Sends over ASGI, in order, by a task that lives while there is something to send: works with every server."""

    def __init__(self, websocket: WebSocket, max_unsent_bytes: int) -> None:
        self._websocket = websocket
        self._max_unsent_bytes = max_unsent_bytes
        self._waiting: deque[Bundle] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._ended = False
        self.end_code: CloseCode | None = None
        self.sent = 0
        self.unsent_bytes = 0

    def write(self, bundle: Bundle) -> None:
        if self._ended:
            return
        if self.unsent_bytes > self._max_unsent_bytes:
            self.end(CloseCode.SLOW)
            return
        self._waiting.append(bundle)
        self.sent += len(bundle.payloads)
        self.unsent_bytes += bundle.size
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                bundle = self._waiting.popleft()
                for text in bundle.texts:
                    await self._websocket.send_text(text)
                self.unsent_bytes -= bundle.size
        except (WebSocketDisconnect, RuntimeError, OSError):
            # The client is gone, or the application closed the socket: its own receive loop ends it.
            self._ended = True
            self._waiting.clear()
            self.unsent_bytes = 0
        except Exception:
            logger.exception("could not send to a client; ending its connection, it can resume")
            self.end(CloseCode.INTERNAL_ERROR)
        finally:
            if self._sender is asyncio.current_task():
                self._sender = None

    def end(self, code: CloseCode) -> None:
        if self._ended:
            return
        self._ended = True
        self.end_code = code
        self._waiting.clear()
        sender, self._sender = self._sender, asyncio.create_task(self._close(code))
        if sender is not None:
            sender.cancel()

    async def _close(self, code: CloseCode) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # it was closed already
            await self._websocket.close(code, code.reason)

    async def flushed(self) -> None:
        while self._sender is not None and not self._sender.done():
            await asyncio.wait([self._sender])


def raw_socket(websocket: WebSocket) -> RawSocket | None:
    """The way past ASGI, where the server of this WebSocket offers it."""
    raw: RawSocket | None = (websocket.scope.get("extensions") or {}).get(RAW_EXTENSION)
    return raw


def open_outbox(websocket: WebSocket, max_unsent_bytes: int) -> Outbox:
    """The fastest way out that the server of this WebSocket offers."""
    raw = raw_socket(websocket)
    return RawOutbox(raw, max_unsent_bytes) if raw is not None else AsgiOutbox(websocket, max_unsent_bytes)


Receivers = Callable[[Entry], Collection["Connection"]]


def fan_out(entries: Sequence[Entry], receivers: Receivers) -> int:
    """Write a batch to everyone who gets something of it. Returns the number of deliveries (message times connection).

    Everything that can fail for all is done before the first write, so that a batch is delivered whole or not at all;
    a connection whose write fails is ended, and resumes.
    """
    routes: dict[tuple[str, tuple[str, ...]], list[int]] = {}  # the numbers of the entries with the same receivers
    for number, entry in enumerate(entries):
        routes.setdefault((entry.topic, entry.conn_ids), []).append(number)

    if len(routes) == 1:
        found = receivers(entries[0])
        if not found:
            return 0
        _write(list(found), Bundle([entry.payload for entry in entries]))
        return len(entries) * len(found)

    wanted: dict[Connection, int] = {}  # bit i: the connection gets the entries of route i
    by_bit = list(routes.values())
    payloads = [b""] * len(entries)
    framed = payloads.copy()
    deliveries = 0
    for bit, route in enumerate(by_bit):
        found = receivers(entries[route[0]])
        if not found:
            continue
        deliveries += len(found) * len(route)
        for number in route:
            payloads[number] = payload = entries[number].payload
            framed[number] = frame_text(payload)
        for connection in found:
            wanted[connection] = wanted.get(connection, 0) | 1 << bit

    sharing: dict[int, list[Connection]] = {}
    for connection, bits in wanted.items():
        sharing.setdefault(bits, []).append(connection)
    for bits, connections in sharing.items():
        ordered: list[int] = []
        while bits:
            bit = bits.bit_length() - 1
            ordered += by_bit[bit]
            bits ^= 1 << bit
        ordered.sort()  # joining routes must keep the log's order
        _write(connections, Bundle([payloads[n] for n in ordered], [framed[n] for n in ordered]))
    return deliveries


def _write(connections: Sequence[Connection], bundle: Bundle) -> None:
    for connection in connections:
        connection.outbox.write(bundle)
