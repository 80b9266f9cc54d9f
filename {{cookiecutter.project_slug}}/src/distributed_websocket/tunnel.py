"""`Tunnel`: after the handshake, bytes pass between a client and a worker without being looked at.

The handshake goes on to the worker with the client's own key, and the worker's `101` comes back unchanged, so cookies,
subprotocol and extensions are the worker's own. From then on a gateway does one read and one write for whatever came
at once: a batch of a thousand messages costs it as much as one. Needs `server.RawWebSocketProtocol`; the proxy relays
messages elsewhere.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Iterable
from typing import Final, cast

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.streams import StreamReader
from websockets.uri import WebSocketURI, parse_uri

from .codes import CloseCode
from .delivery import RawSocket

MAX_HEAD_BYTES: Final = 64 * 1024
"""The head and body of a worker's answer to a handshake."""

STALL_SECONDS: Final = 60.0
"""How long one side may take nothing before both are dropped."""

CLOSE_SECONDS: Final = 5.0
"""How long the two may take to end what was ended by a close frame of ours."""


class Tunnel(asyncio.Protocol):
    """The worker's side of a tunnel, and what the two sides do for each other.

    A side that is full stops the other from being read. A side that ends, ends the other: at once, and behind what was
    on its way to it.
    """

    def __init__(self) -> None:
        self._answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._head = bytearray()
        self._client: asyncio.Transport | None = None
        self._frames = FrameWalk()
        self._last_words: bytes | None = None
        self._stalled: dict[str, asyncio.TimerHandle] = {}
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by `connection_made`

    # The handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class

    async def answer(self) -> Response:
        """The worker's answer to the handshake. Behind a `101` nothing is read until `join`.

        Raises `InvalidHandshake` for what is no answer, `OSError` for a lost connection.
        """
        return await self._answered

    def join(self, client: RawSocket) -> None:
        """Connect the two sides, and give the client the worker's `101` as it came."""
        answer, self._head = bytes(self._head), bytearray()
        self._client = client.transport
        OPEN.add(self)
        client.splice(self, answer)

    def data_received(self, data: bytes) -> None:
        if self._client is not None:
            self._client.write(data)
        else:
            self._head += data
            self._look_at_head(ended=False)

    def eof_received(self) -> None:
        if self._client is None:
            self._look_at_head(ended=True)

    def _look_at_head(self, *, ended: bool) -> None:
        if self._answered.done():
            return
        try:
            response = _parse_response(bytes(self._head), ended=ended)
        except Exception as exc:
            self._answered.set_exception(InvalidHandshake(f"the worker's answer is not HTTP: {exc}"))
            return
        if response is not None:
            self._answered.set_result(response)
            if response.status_code == 101:
                self.transport.pause_reading()  # until the client's side is there
        elif len(self._head) > MAX_HEAD_BYTES:
            self._answered.set_exception(InvalidHandshake(f"the worker's answer is over {MAX_HEAD_BYTES} bytes"))

    # From the client's side

    def from_client(self, data: bytes) -> None:
        if self._last_words is not None:
            return  # a close frame of ours is the last that the worker gets
        self._frames.feed(data)
        self.transport.write(data)
        if self._frames.between_frames and self._leaving is not None:
            self._say_close(self._leaving)

    def client_lost(self) -> None:
        self._end()
        _close(self.transport)

    def client_full(self) -> None:
        self._pause("worker", self.transport)

    def client_free(self) -> None:
        self._resume("worker", self.transport)

    # From the worker's side

    def pause_writing(self) -> None:
        if self._client is not None:
            self._pause("client", self._client)

    def resume_writing(self) -> None:
        if self._client is not None:
            self._resume("client", self._client)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError("the worker closed the connection"))
        self._end()
        if self._client is not None:
            _close(self._client)

    def _pause(self, reader: str, transport: asyncio.Transport) -> None:
        if reader not in self._stalled:
            transport.pause_reading()
            self._stalled[reader] = asyncio.get_running_loop().call_later(STALL_SECONDS, self.abort)

    def _resume(self, reader: str, transport: asyncio.Transport) -> None:
        timer = self._stalled.pop(reader, None)
        if timer is not None:
            timer.cancel()
            if not transport.is_closing():
                transport.resume_reading()

    def _end(self) -> None:
        OPEN.discard(self)
        for timer in self._stalled.values():
            timer.cancel()
        self._stalled.clear()

    def abort(self) -> None:
        """Drop both sides with what is on its way."""
        self.transport.abort()
        if self._client is not None:
            self._client.abort()

    # Leaving

    _leaving: CloseCode | None = None

    def leave(self, code: CloseCode) -> None:
        """End both sides with a close code: the worker is told by a close frame, as from the client, and answers it.

        The answer stands between whole frames, where nothing that we wrote to the client could be sure to stand.
        """
        if self._leaving is None:
            self._leaving = code
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.abort)
            if self._frames.between_frames:
                self._say_close(code)

    def _say_close(self, code: CloseCode) -> None:
        payload = Close(int(code), code.reason).serialize()
        self._last_words = Frame(Opcode.CLOSE, payload).serialize(mask=True)
        self.transport.write(self._last_words)


def _close(transport: asyncio.Transport) -> None:
    """Close behind what is unsent, but do not wait for ever until it is taken."""
    transport.close()
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)


OPEN: Final[set[Tunnel]] = set()
"""The tunnels of this process."""


async def drain(within_seconds: float) -> None:
    """End all tunnels, spread over a time, with the code that says "come back" (1012)."""
    leaving = list(OPEN)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number, tunnel in enumerate(leaving, 1):
        await asyncio.sleep(max(0.0, start + within_seconds * number / len(leaving) - loop.time()))
        tunnel.leave(CloseCode.DRAIN)


async def open_tunnel(
    endpoint: str, key: str, headers: Iterable[tuple[str, str]], *, tls: ssl.SSLContext | None = None
) -> Tunnel:
    """Connect to a worker and send it the client's handshake, with its key. `answer` is the worker's.

    Raises `InvalidURI` and `OSError`.
    """
    uri = parse_uri(endpoint)
    request = _handshake(uri, key, headers)
    context = tls or ssl.create_default_context() if uri.secure else None
    loop = asyncio.get_running_loop()
    _, tunnel = await loop.create_connection(Tunnel, uri.host, uri.port, ssl=context)
    tunnel.transport.write(request)
    return tunnel


def _handshake(uri: WebSocketURI, key: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """RFC 6455 §4.1, with the key of somebody else's handshake."""
    default_port = 443 if uri.secure else 80
    fields = Headers()
    fields["Host"] = uri.host if uri.port == default_port else f"{uri.host}:{uri.port}"
    fields["Upgrade"] = "websocket"
    fields["Connection"] = "Upgrade"
    fields["Sec-WebSocket-Key"] = key
    fields["Sec-WebSocket-Version"] = "13"
    for name, value in headers:
        if "\r" in value or "\n" in value or "\r" in name or "\n" in name:
            raise ValueError(f"a header may not hold a line break: {name!r}")
        fields[name] = value
    return Request(uri.resource_name, fields).serialize()


def _parse_response(data: bytes, *, ended: bool) -> Response | None:
    """The response that the bytes hold whole; `None` while more is to come."""
    reader = StreamReader()
    reader.feed_data(data)
    if ended:
        reader.feed_eof()
    parser = Response.parse(reader.read_line, reader.read_exact, reader.read_to_eof)
    try:
        next(parser)
    except StopIteration as done:
        response: Response = done.value
        return response
    return None


class FrameWalk:
    """Knows whether a stream of WebSocket frames (RFC 6455 §5.2) stands between two of them."""

    __slots__ = ("_header", "_skip")

    def __init__(self) -> None:
        self._header = b""
        self._skip = 0
        """Bytes of the present frame that are still to come, once its header is known."""

    @property
    def between_frames(self) -> bool:
        return not self._skip and not self._header

    def feed(self, data: bytes) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
                continue
            header = self._header + data[position : position + 14 - len(self._header)]
            length = _frame_length(header)
            if length is None:
                self._header = header
                return
            position -= len(self._header)
            self._header = b""
            self._skip = length
            if position < 0:  # the header began in what was fed before
                self._skip += position
                position = 0


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
