"""The handshake that opens a tunnel: the client's goes on with its own key, so that the upstream's answer fits it."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.headers import build_host
from websockets.http11 import Request, Response
from websockets.streams import StreamReader
from websockets.uri import WebSocketURI, parse_uri


class Upgrade(asyncio.Protocol):
    """Asks the upstream to become a WebSocket. Behind its `101` nothing is read until a tunnel takes over."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._reader = StreamReader()
        self._parser = Response.parse(self._reader.read_line, self._reader.read_exact, self._reader.read_to_eof)
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by `connection_made`
        self.answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        """The upstream's; `InvalidHandshake` for what is none, `OSError` for a lost connection."""

    @property
    def rest(self) -> bytes:
        """What came behind the answer."""
        return bytes(self._reader.buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._reader.feed_data(data)
        self._parse()

    def eof_received(self) -> None:
        self._reader.feed_eof()
        self._parse()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("the upstream closed the connection"))

    def _parse(self) -> None:
        if self.answer.done():
            return
        try:
            next(self._parser)  # which bounds what it reads
        except StopIteration as done:
            self.answer.set_result(done.value)
            if done.value.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
                self.transport.pause_reading()
        except Exception as exc:
            self.answer.set_exception(InvalidHandshake(f"the upstream's answer is not HTTP: {exc}"))


async def open_upgrade(endpoint: str, key: str, headers: Iterable[tuple[str, str]]) -> Upgrade:
    """Connect to the upstream and send it a client's handshake. Returns when it has answered with a `101`.

    Raises `InvalidStatus` for any other answer, `InvalidHandshake` for none, `InvalidURI` and `OSError`.
    """
    uri = parse_uri(endpoint)
    request = _handshake(uri, key, headers)
    tls = _tls() if uri.secure else None
    _, upgrade = await asyncio.get_running_loop().create_connection(
        lambda: Upgrade(request), uri.host, uri.port, ssl=tls
    )
    try:
        response = await upgrade.answer
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            raise InvalidStatus(response)
    except BaseException:
        upgrade.transport.abort()
        raise
    return upgrade


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reads all certificates of the system: not for each connection


def _handshake(uri: WebSocketURI, key: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """RFC 6455 §4.1, with the key of somebody else's handshake."""
    fields = Headers()
    fields["Host"] = build_host(uri.host, uri.port, uri.secure)
    fields["Upgrade"] = "websocket"
    fields["Connection"] = "Upgrade"
    fields["Sec-WebSocket-Key"] = key
    fields["Sec-WebSocket-Version"] = "13"
    for name, value in headers:
        if any(end in text for text in (name, value) for end in "\r\n"):
            raise ValueError(f"a header may not hold a line break: {name!r}")
        fields[name] = value
    return Request(uri.resource_name, fields).serialize()
