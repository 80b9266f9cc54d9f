"""`WebSocket`: one client connection, blocking, on the protocol logic of `websockets` (which does no I/O).

It uses `socket` alone, so it blocks its greenlet instead of the process where gevent has patched that module.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.uri import parse_uri

READ_BYTES = 65_536
LOST = 1006
"""Ended without a close frame (RFC 6455 §7.4.1); never sent on the wire."""


class WebSocketClosed(Exception):
    """The connection has ended, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code} {reason}".rstrip())


class HandshakeFailed(Exception):
    """There is no connection; the text says why."""


class WebSocket:
    """An open connection. Made by `connect`; one greenlet may receive while another sends."""

    def __init__(self, stream: socket.socket, protocol: ClientProtocol) -> None:
        response, *events = protocol.events_received()
        assert isinstance(response, Response)
        self.cookies = _cookies(response)
        """What the answer to the handshake set. Attributes are ignored: load balancers' cookies have no domain."""
        self._stream = stream
        self._protocol = protocol
        self._fragments: list[bytes] = []
        self._writing = threading.Lock()
        self._early = self._texts(events)  # they came in one piece with the answer to the handshake

    @classmethod
    def connect(cls, url: str, *, headers: Mapping[str, str], timeout_seconds: float) -> WebSocket:
        """Raises `HandshakeFailed`, also when there is no answer in time."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        protocol = ClientProtocol(parse_uri(url), max_size=None)
        request = protocol.connect()
        request.headers.update(headers)
        try:
            stream = socket.create_connection((parts.hostname, port), timeout_seconds)
        except OSError as error:
            raise HandshakeFailed(error.strerror or str(error)) from error
        try:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if parts.scheme == "wss":
                stream = ssl.create_default_context().wrap_socket(stream, server_hostname=parts.hostname)
            protocol.send_request(request)
            _write(stream, protocol.data_to_send())
            while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
                _read(stream, protocol)
            if protocol.handshake_exc is not None:
                raise HandshakeFailed(_reason(protocol.handshake_exc)) from protocol.handshake_exc
            _write(stream, protocol.data_to_send())  # a ping may have come along with the answer
            stream.settimeout(None)
        except OSError as error:
            stream.close()
            raise HandshakeFailed(error.strerror or str(error) or type(error).__name__) from error
        except BaseException:
            stream.close()
            raise
        return cls(stream, protocol)

    def receive(self) -> list[bytes]:
        """The text messages that came, at least one. Pings are answered. Raises `WebSocketClosed`."""
        texts, self._early = self._early, []
        while not texts:
            if self._protocol.state is not State.OPEN:
                raise self._closed()
            try:
                _read(self._stream, self._protocol)
                self._flush()
            except OSError as error:
                raise WebSocketClosed(LOST, error.strerror or str(error)) from error
            texts = self._texts(self._protocol.events_received())
        return texts

    def send(self, text: bytes) -> None:
        """Send one text message (UTF-8). Raises `WebSocketClosed`."""
        if self._protocol.state is not State.OPEN:
            raise self._closed()
        self._protocol.send_text(text)
        try:
            self._flush()
        except OSError as error:
            raise WebSocketClosed(LOST, error.strerror or str(error)) from error

    def close(self, code: int = 1000) -> None:
        """Say goodbye, without waiting for the answer, and end the connection. Harmless when it has ended."""
        with suppress(OSError):  # the peer was faster
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(code)
                self._flush()
            self._stream.shutdown(socket.SHUT_RDWR)  # wakes whoever receives
        self._stream.close()

    def _flush(self) -> None:
        if output := self._protocol.data_to_send():
            with self._writing:  # or a pong could land in the middle of a long message
                _write(self._stream, output)

    def _texts(self, events: Iterable[Event]) -> list[bytes]:
        texts = []
        for event in events:
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                if event.fin and not self._fragments:
                    texts.append(bytes(event.data))
                    continue
                self._fragments.append(bytes(event.data))
                if event.fin:
                    texts.append(b"".join(self._fragments))
                    self._fragments.clear()
        return texts

    def _closed(self) -> WebSocketClosed:
        received = self._protocol.close_rcvd
        return WebSocketClosed(received.code, received.reason) if received else WebSocketClosed(LOST, "no close frame")


def _read(stream: socket.socket, protocol: ClientProtocol) -> None:
    data = stream.recv(READ_BYTES)
    if data:
        protocol.receive_data(data)
    else:
        protocol.receive_eof()


def _write(stream: socket.socket, output: list[bytes]) -> None:
    for data in output:
        if data:
            stream.sendall(data)
        else:  # the protocol's sign for "no more": half-close
            stream.shutdown(socket.SHUT_WR)


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, InvalidHandshake):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _cookies(response: Response) -> dict[str, str]:
    jar: SimpleCookie = SimpleCookie()
    for line in response.headers.get_all("Set-Cookie"):
        with suppress(CookieError):
            jar.load(line)
    return {name: morsel.value for name, morsel in jar.items()}
