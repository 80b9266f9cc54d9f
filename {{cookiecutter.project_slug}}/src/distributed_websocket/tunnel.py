"""`Tunnel`: after the handshake, bytes pass between a client and its upstream without being looked at.

A gateway does one read and one write for whatever came at once: a batch of a thousand messages costs it as much as one.
Needs `server.RawWebSocketProtocol`; the proxy relays messages elsewhere.
"""

from __future__ import annotations

import asyncio
import select
import struct
import sys
from typing import Final

from websockets.frames import Close, Frame, Opcode

from .codes import CloseCode
from .delivery import RawSocket
from .metrics import TUNNELS
from .upgrade import Upgrade

STALL_SECONDS: Final = 60.0
"""How long one side may take nothing before both are dropped."""

CLOSE_SECONDS: Final = 5.0
"""The same, once there has been a close frame or one side has ended."""


def join(client: RawSocket, upgrade: Upgrade, answer: bytes) -> None:
    """Connect the two sides, and give the client the `answer` to its handshake."""
    upstream = upgrade.transport
    if upstream.is_closing():
        raise ConnectionResetError("the upstream closed the connection")
    tunnel = Tunnel(client.transport, upstream)
    upstream.set_protocol(tunnel)
    upstream.resume_reading()
    client.splice(tunnel, answer + upgrade.rest)


class Tunnel(asyncio.Protocol):
    """The upstream's side of a tunnel, and what the two sides do for each other.

    A side that is full stops the other from being read. A side that ends, ends the other: at once, and behind what was
    on its way to it.
    """

    __slots__ = ("_client", "_client_ended", "_deaf", "_ending", "_frames", "_leaving", "_upstream", "_watches")

    def __init__(self, client: asyncio.Transport, upstream: asyncio.Transport) -> None:
        self._client = client
        self._upstream = upstream
        self._frames = FrameWalk()
        self._leaving: CloseCode | None = None
        self._client_ended = False
        """It has half-closed its connection: it listens, but says no more."""
        self._deaf = False
        """The upstream gets nothing more."""
        self._ending = False
        self._watches: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        OPEN.add(self)

    # From the client's side

    def from_client(self, data: bytes) -> None:
        if self._is_deaf():
            return
        end = self._frames.feed(data)
        if self._leaving is not None and end and not self._frames.closing:
            self._upstream.write(data[:end])
            self._say_close(self._leaving)
            return
        self._upstream.write(data)
        if self._frames.closing:
            self._expect_end(self._upstream)

    def _is_deaf(self) -> bool:
        # Writing to an upstream that has ended resets the connection, and what is unread of its last words is lost.
        # An end is read as soon as it comes, but for a client that is full: then one must ask.
        if self._upstream.is_closing() or (self._client in self._watches and _has_hung_up(self._upstream)):
            self._deaf = True
        return self._deaf

    def client_eof(self) -> bool:
        """The client says no more. Returns whether its connection stays open for the upstream's last words."""
        self._client_ended = True
        if self._upstream.is_closing():
            return False
        if not (self._client.can_write_eof() and self._upstream.can_write_eof()):  # TLS
            self._close(self._upstream)
            self._expect_end(self._client)
            return False
        self._deaf = True
        self._upstream.write_eof()
        self._expect_end(self._upstream)
        return True

    def client_lost(self) -> None:
        self._lost(self._client)
        self._close(self._upstream)

    def client_full(self) -> None:
        self._full(self._client, self._upstream)

    def client_free(self) -> None:
        self._free(self._client, self._upstream)

    # From the upstream's side

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def eof_received(self) -> None:
        self._close(self._upstream)
        self._end_client()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self._upstream)
        self._end_client()

    def pause_writing(self) -> None:
        self._full(self._upstream, self._client)

    def resume_writing(self) -> None:
        self._free(self._upstream, self._client)

    def _end_client(self) -> None:
        """It has been told everything."""
        if self._client_ended or not self._client.can_write_eof():
            self._close(self._client)
        elif not self._client.is_closing():
            # Closing would reset the connection of a client that still talks, and what is unread there would be lost.
            self._client.write_eof()
            self._client.resume_reading()
            self._expect_end(self._client)

    def _close(self, side: asyncio.Transport) -> None:
        """Behind what is unsent."""
        if not side.is_closing():
            side.close()
            self._expect_end(side)

    # Waiting for a side

    def _full(self, writer: asyncio.Transport, reader: asyncio.Transport) -> None:
        reader.pause_reading()
        if writer not in self._watches:
            self._watch(writer, STALL_SECONDS)

    def _free(self, writer: asyncio.Transport, reader: asyncio.Transport) -> None:
        if not self._ending:
            self._forget(writer)
        reader.resume_reading()

    def _expect_end(self, side: asyncio.Transport) -> None:
        OPEN.discard(self)
        self._ending = True
        self._watch(side, CLOSE_SECONDS)

    def _watch(self, side: asyncio.Transport, seconds: float) -> None:
        """Drop both sides if this one takes nothing for so long."""
        self._forget(side)
        unsent = side.get_write_buffer_size()
        self._watches[side] = asyncio.get_running_loop().call_later(seconds, self._look_again, side, seconds, unsent)

    def _look_again(self, side: asyncio.Transport, seconds: float, unsent: int) -> None:
        if side.get_write_buffer_size() < unsent:
            self._watch(side, seconds)
        else:
            self._client.abort()
            self._upstream.abort()

    def _lost(self, side: asyncio.Transport) -> None:
        OPEN.discard(self)
        self._forget(side)

    def _forget(self, side: asyncio.Transport) -> None:
        timer = self._watches.pop(side, None)
        if timer is not None:
            timer.cancel()

    # Leaving

    def leave(self, code: CloseCode) -> None:
        """End both sides with a close code: the upstream is told by a close frame, as from the client, and answers it.

        Its answer stands between whole frames, where nothing that we wrote to the client could be sure to stand. Ours
        stands between messages: inside of one it would be answered with 1002, after which no client comes back.
        """
        if self._leaving is None and not self._is_deaf():
            self._leaving = code
            self._expect_end(self._upstream)
            if self._frames.between_messages and not self._frames.closing:
                self._say_close(code)

    def _say_close(self, code: CloseCode) -> None:
        self._deaf = True  # a close frame is the last that the upstream gets
        self._upstream.write(Frame(Opcode.CLOSE, Close(int(code), code.reason).serialize()).serialize(mask=True))


def _has_hung_up(side: asyncio.Transport) -> bool:
    """Whether this side has ended, which a transport that is not read does not notice."""
    if sys.platform != "linux":
        return False
    poller = select.poll()
    poller.register(side.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poller.poll(0))


OPEN: Final[set[Tunnel]] = set()
"""The tunnels of this process, but for those that are about to end."""

TUNNELS.set_function(lambda: len(OPEN))


async def drain(within_seconds: float) -> None:
    """End all tunnels, spread over a time, with the code that says "come back" (1012)."""
    leaving = list(OPEN)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number, tunnel in enumerate(leaving, 1):
        await asyncio.sleep(max(0.0, start + within_seconds * number / len(leaving) - loop.time()))
        tunnel.leave(CloseCode.DRAIN)


class FrameWalk:
    """Finds the places between messages in a stream of WebSocket frames (RFC 6455 §5.2)."""

    __slots__ = ("_header", "_in_message", "_skip", "closing")

    def __init__(self) -> None:
        self._header = b""
        self._skip = 0
        """Bytes of the present frame that are still to come, once its header is known."""
        self._in_message = False
        """Whether fragments of the present message come after this frame."""
        self.closing = False
        """Whether there was a close frame, or the beginning of one."""

    @property
    def between_messages(self) -> bool:
        return not (self._skip or self._header or self._in_message)

    def feed(self, data: bytes) -> int:
        """How many of these bytes lie before the last place between messages that they reach; 0 if they reach none."""
        position = place = 0
        while position < len(data):
            if not self._skip:
                header = self._header + data[position : position + _MAX_HEADER_BYTES - len(self._header)]
                length = _frame_length(header)
                if length is None:
                    self._header = header
                    break
                opcode = header[0] & 0x0F
                if opcode < Opcode.CLOSE:
                    self._in_message = not header[0] & 0x80
                elif opcode == Opcode.CLOSE:
                    self.closing = True
                self._skip = length - len(self._header)
                self._header = b""
            step = min(self._skip, len(data) - position)
            self._skip -= step
            position += step
            if not (self._skip or self._in_message):
                place = position
        return place


_MAX_HEADER_BYTES: Final = 14


def _frame_length(header: bytes) -> int | None:
    """Bytes of the whole frame, header and mask included; `None` if the header is not whole."""
    if len(header) < 2:
        return None
    length, mask = header[1] & 0x7F, 4 if header[1] & 0x80 else 0
    if length < 126:
        return 2 + mask + length
    size = 2 if length == 126 else 8
    if len(header) < 2 + size:
        return None
    (extended,) = struct.unpack_from("!H" if size == 2 else "!Q", header, 2)
    return 2 + size + mask + int(extended)
