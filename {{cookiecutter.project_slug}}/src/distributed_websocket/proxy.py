"""`WebSocketProxy`: passes a client's WebSocket on to another server, the upstream, and back.

Two parts that know little of each other: the handshake, in which the upstream's answer decides the client's, and the
relay of messages once both sides are open.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, Response
from starlette.types import Message
from starlette.websockets import WebSocketDisconnected, WebSocketState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.typing import Subprotocol

from .auth import BEARER_SUBPROTOCOL_PREFIX, offered_subprotocols
from .codes import CloseCode
from .delivery import RawSocket, raw_socket
from .forwarding import request_headers, response_headers
from .tunnel import Tunnel, open_tunnel

CLOSE_SECONDS = 5.0  # how long the upstream may take to answer a close frame
LINGER_SECONDS = 0.5  # how long it may keep the TCP connection after its own close frame
STALL_SECONDS = 60.0  # how long one message may wait for a side that does not read
_NO_STATUS_RECEIVED, _ABNORMAL_CLOSURE = 1005, 1006  # never in a frame (RFC 6455 §7.4.1)


class _Connect(connect):
    """`connect` that leaves redirects to the client: following them, a server could send us anywhere."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Upstream(ClientConnection):
    """A `ClientConnection` whose end does not wait long for the server to close the TCP connection."""

    def process_event(self, event: Event) -> None:
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
            # Answered already. RFC 6455 §7.1.1 leaves the TCP connection to the server, which may have stopped
            # reading; `recv` reports the end, so that the client can be told, only once that connection is gone.
            self.loop.call_later(LINGER_SECONDS, self.transport.abort)


class WebSocketProxy:
    """Proxies the WebSocket `client` to `server_endpoint` (`ws://` or `wss://`, with path): `await proxy()`.

    Best called before the client is accepted. Then the upstream is connected first, and its answer becomes the
    client's: status, reason and headers of a refusal, or subprotocol, cookies and headers of a success; 502 if it
    cannot be reached and 504 if it has not answered within `connect_timeout_seconds`. A client that was accepted before
    is closed instead: 1008 if the upstream refuses it, 1013 if the upstream is not there.

    `headers` are set on the handshake with the upstream and replace the client's of the same names: what the caller
    vouches for. If `Authorization` is among them, tokens that the client offered as subprotocol stay here.

    Afterwards text, binary, close codes and reasons pass both ways, one message at a time, so a side that does not read
    stops the other from sending; at most `max_message_bytes` of a message from the upstream are taken. Returns when
    both sides have ended; nothing that it started is left.
    """

    def __init__(
        self,
        client: WebSocket,
        server_endpoint: str,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout_seconds: float = 5.0,
        max_message_bytes: int = 16 * 2**20,
    ) -> None:
        self._client = client
        self._server_endpoint = server_endpoint
        self._headers = dict(headers or {})
        self._connect_timeout_seconds = connect_timeout_seconds
        self._max_message_bytes = max_message_bytes

    async def __call__(self) -> None:
        client = self._client
        if client.client_state is WebSocketState.CONNECTING:
            await client.receive()  # "websocket.connect"
        raw = raw_socket(client)
        if raw is not None and client.application_state is WebSocketState.CONNECTING:
            await self._splice(raw)
        else:
            await self._relay()

    async def _splice(self, raw: RawSocket) -> None:
        """The fast way: after the handshake the two sides are one tunnel."""
        tunnel: Tunnel | None = None
        joined = False
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                key = self._client.headers["sec-websocket-key"]
                tunnel = await open_tunnel(self._server_endpoint, key, self._handshake_headers())
                response = await tunnel.answer()
            if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
                raise InvalidStatus(response)
            joined = raw.is_open
            if joined:
                tunnel.join(raw)
        except (OSError, InvalidHandshake, InvalidURI) as error:
            with contextlib.suppress(WebSocketDisconnect, WebSocketDisconnected):  # the client went away meanwhile
                await _refuse(self._client, error)
        finally:
            if tunnel is not None and not joined:
                tunnel.transport.abort()

    def _handshake_headers(self) -> list[tuple[str, str]]:
        headers = request_headers(self._client, self._headers)
        subprotocols = self._subprotocols()
        if subprotocols:
            headers.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        extensions = self._client.headers.getlist("sec-websocket-extensions")
        if extensions:
            headers.append(("Sec-WebSocket-Extensions", ", ".join(extensions)))
        return headers

    def _subprotocols(self) -> list[Subprotocol]:
        """What the client offers, without its token where the caller speaks for it."""
        names_caller = any(name.lower() == "authorization" for name in self._headers)
        return [
            Subprotocol(offered)
            for offered in offered_subprotocols(self._client)
            if not (names_caller and offered.startswith(BEARER_SUBPROTOCOL_PREFIX))
        ]

    async def _relay(self) -> None:
        """The way that every server can go: message by message."""
        client = self._client
        # Listening already while the upstream connects: a client that goes away must not be connected for.
        first = asyncio.ensure_future(client.receive())
        connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.wait((first, connecting), return_when=asyncio.FIRST_COMPLETED)
            if first.done() and not connecting.done() and first.result()["type"] == "websocket.disconnect":
                return
            try:
                upstream = await connecting
            except (OSError, InvalidHandshake, InvalidURI) as error:
                await _refuse(client, error)
                return
            if client.application_state is WebSocketState.CONNECTING:
                await client.accept(upstream.subprotocol, response_headers(upstream.response))
            await relay(client, upstream, first)
        except (WebSocketDisconnect, WebSocketDisconnected):
            return  # the client went away during the handshake
        finally:
            await _end(first)
            await _end(connecting)
            if not connecting.cancelled() and connecting.exception() is None:
                connecting.result().transport.abort()

    async def _connect(self) -> ClientConnection:
        return await _Connect(
            self._server_endpoint,
            additional_headers=request_headers(self._client, self._headers),
            user_agent_header=None,
            subprotocols=self._subprotocols() or None,
            compression=None,
            proxy=None,  # else HTTP_PROXY and its like decide where our own workers are
            open_timeout=self._connect_timeout_seconds,
            close_timeout=CLOSE_SECONDS,
            max_size=self._max_message_bytes,
            create_connection=_Upstream,
        )


# The handshake's bad endings


async def _refuse(client: WebSocket, error: Exception) -> None:
    """Tell the client why there is no upstream: over HTTP where it is not accepted yet, else with a close code."""
    if isinstance(error, InvalidStatus) and error.response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
        refusal = error.response
        response = Response(bytes(refusal.body or b""), refusal.status_code)
        response.raw_headers += response_headers(refusal)
    elif isinstance(error, TimeoutError):
        response = PlainTextResponse("the server behind did not answer in time\n", HTTPStatus.GATEWAY_TIMEOUT)
    else:
        response = PlainTextResponse("the server behind cannot be reached\n", HTTPStatus.BAD_GATEWAY)
    accepted = client.application_state is not WebSocketState.CONNECTING
    if not accepted and "websocket.http.response" in client.scope.get("extensions", {}):
        await client.send_denial_response(response)
    elif response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        await client.close(CloseCode.POLICY_VIOLATION, CloseCode.POLICY_VIOLATION.reason)
    else:
        await client.close(CloseCode.OVERLOAD, "the server behind is not available")


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel what is still running, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# The relay of messages


async def relay(client: WebSocket, upstream: ClientConnection, first: asyncio.Future[Message]) -> None:
    """Pass messages both ways until one side ends, then end the other the same way.

    `first` is the pending first `client.receive()`. What a side sent before it ended still arrives: a pump whose
    destination is gone leaves the ending to the other pump, which reads that destination's last words.
    """
    up = asyncio.ensure_future(_pump_up(client, upstream, first))
    down = asyncio.ensure_future(_pump_down(upstream, client))
    try:
        pumps: tuple[asyncio.Future[Any], ...] = (up, down)
        done, running = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        if running and not any(pump.result() for pump in done):
            await asyncio.wait(running)
        disconnect = up.result() if up.done() else None
        closed = down.result() if down.done() else None
    except TimeoutError:  # raised by a pump; `upstream` is dropped by the caller
        await _close_client(client, CloseCode.OVERLOAD, "stalled")
        return
    finally:
        await _end(up)
        await _end(down)
    if disconnect is not None:
        await _close_upstream(upstream, disconnect)
    elif closed is not None:
        await _close_client(client, *_close_for_client(closed))


async def _pump_up(client: WebSocket, upstream: ClientConnection, first: asyncio.Future[Message]) -> Message | None:
    """Client to upstream. The message that ended the client, or None if the upstream is gone."""
    message = await first
    while message["type"] != "websocket.disconnect":
        text: str | None = message.get("text")
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await upstream.send(message["bytes"] if text is None else text)
        except ConnectionClosed:
            return None
        message = await client.receive()
    return message


async def _pump_down(upstream: ClientConnection, client: WebSocket) -> ConnectionClosed | None:
    """Upstream to client. What ended the upstream, or None if the client is gone."""
    while True:
        try:
            data = await upstream.recv()
        except ConnectionClosed as closed:
            return closed
        try:
            async with asyncio.timeout(STALL_SECONDS):
                if isinstance(data, str):
                    await client.send_text(data)
                else:
                    await client.send_bytes(data)
        except (WebSocketDisconnect, WebSocketDisconnected):
            return None


# The end of one side, told to the other


def _close_for_client(closed: ConnectionClosed) -> tuple[int, str]:
    received, sent = closed.rcvd, closed.sent
    if received is not None:
        return (CloseCode.NORMAL, "") if received.code == _NO_STATUS_RECEIVED else (received.code, received.reason)
    if sent is not None and sent.code != CloseCode.INTERNAL_ERROR:
        return CloseCode.INTERNAL_ERROR, "the server behind sent what cannot be passed on"
    return CloseCode.DRAIN, "the server behind went away"  # lost, or deaf to our pings (which the client calls 1011)


async def _close_client(client: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(TimeoutError, WebSocketDisconnect, WebSocketDisconnected):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close(code, reason)


async def _close_upstream(upstream: ClientConnection, disconnect: Message) -> None:
    code: int = disconnect.get("code", _NO_STATUS_RECEIVED)
    with contextlib.suppress(TimeoutError):
        # `close` waits for the answer at most CLOSE_SECONDS, but for a full write buffer without a limit.
        async with asyncio.timeout(2 * CLOSE_SECONDS):
            if code == _ABNORMAL_CLOSURE:
                upstream.transport.close()
                await upstream.wait_closed()
            elif code == _NO_STATUS_RECEIVED:
                await upstream.close(None)  # type: ignore[arg-type]  # websockets 17: sends an empty close frame
            else:
                await upstream.close(code, disconnect.get("reason") or "")
