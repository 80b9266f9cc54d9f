"""Clients that listen to one topic and do next to nothing else, so that hundreds of them keep up with a fast worker.

Messages carry a number of eight digits. Those that read see that each follows the last; those that stall are subscribed
and then never read again.
"""

import asyncio
import base64
import os
import re
import socket
from collections.abc import Callable
from typing import Final

from distributed_websocket.auth import issue_token

_NUMBER: Final = re.compile(rb'"n":"(\d{8})"')
_CONNECTIONS_OF_A_USER: Final = 10
_TCP_ESTABLISHED: Final = 1
_SMALL: Final = 4096


def body(topic: str, number: int, size: int = 0) -> bytes:
    """A message of the topic, as the log keeps it; `size` characters of text besides."""
    return b'{"type":"send","topic":"%b","n":"%08d","data":"%b"}' % (topic.encode(), number, b"x" * size)


def handshake(number: int, secret: str) -> bytes:
    """Of client `number`."""
    token = issue_token(f"user-{number // _CONNECTIONS_OF_A_USER}", secret=secret, lifetime_seconds=3600)
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        "GET /ws HTTP/1.1\r\nHost: worker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


def subscription(topic: str) -> bytes:
    """A masked text frame; with a mask of zeros the payload is as it is."""
    payload = b'{"type":"subscribe","topic":"%b"}' % topic.encode()
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload


class Reader(asyncio.Protocol):
    """Reads. `on_messages` is told the number of the first message of a read, and how many came."""

    def __init__(
        self, number: int, topic: str, secret: str, on_messages: Callable[[int, int], None] = lambda first, count: None
    ) -> None:
        self._first_words = handshake(number, secret)
        self._subscribe = subscription(topic)
        self._on_messages = on_messages
        self._rest = b""
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.next = 0
        """The number that has to come next."""
        self.fault = ""
        """What came instead, or how the connection ended."""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]  # uvloop's is none by class
        self.transport.write(self._first_words)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self.subscribed.done():
            if b"\r\n\r\n" in data and self._subscribe:
                self.transport.write(self._subscribe)
                self._subscribe = b""
            if b'"subscribed"' in data:
                self.subscribed.set_result(None)
        end = 0
        numbers = []
        for found in _NUMBER.finditer(data):
            numbers.append(int(found[1]))
            end = found.end()
        self._rest = data[end:][-_SMALL:] if self.subscribed.done() else data
        if not numbers:
            return
        if numbers != list(range(self.next, self.next + len(numbers))) and not self.fault:
            self.fault = f"{numbers[0]} to {numbers[-1]}, {len(numbers)} messages, where {self.next} was due"
        self._on_messages(self.next, len(numbers))
        self.next += len(numbers)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fault = self.fault or f"its connection ended: {exc}"
        if not self.subscribed.done():
            self.subscribed.set_exception(ConnectionError(self.fault))


async def reading(port: int, number: int, topic: str, secret: str, on_messages: Callable[[int, int], None]) -> Reader:
    """A subscribed client that reads."""
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: Reader(number, topic, secret, on_messages), "127.0.0.1", port)
    await asyncio.wait_for(reader.subscribed, 60)
    return reader


async def stalled(port: int, number: int, topic: str, secret: str) -> socket.socket:
    """A subscribed client that reads nothing more, with a small receive buffer. The caller closes it."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
    try:
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, handshake(number, secret))
        heard, asked = b"", False
        while b'"subscribed"' not in heard:
            read = await asyncio.wait_for(loop.sock_recv(client, _SMALL), 60)
            if not read:
                raise ConnectionError(f"the worker ended it: {heard[:80]!r}")
            heard += read
            if not asked and b"\r\n\r\n" in heard:
                asked = True
                await loop.sock_sendall(client, subscription(topic))
    except BaseException:
        client.close()
        raise
    return client


def is_connected(client: socket.socket) -> bool:
    """Whether the worker still has the connection: who does not read is not told."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_ESTABLISHED


async def last_words(client: socket.socket) -> bytes:
    """The last of what is left to read, until the worker ends the connection, resets it, or is silent for long."""
    loop = asyncio.get_running_loop()
    heard = b""
    try:
        while read := await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 20):
            heard = (heard + read)[-_SMALL:]
    except (ConnectionError, TimeoutError):
        pass
    return heard
