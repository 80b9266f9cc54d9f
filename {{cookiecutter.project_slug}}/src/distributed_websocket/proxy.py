"""`WebSocketProxy`: passes a client's WebSocket on to another server, the upstream, and back.

Here is the handshake, in which the upstream's answer decides the client's. What passes once both sides are open are
bytes where the server allows it (`tunnel.py`), else messages (`relay.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from fastapi import WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, Response
from starlette.types import Message
from starlette.websockets import WebSocketDisconnected, WebSocketState
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from .auth import BEARER_SUBPROTOCOL_PREFIX, offered_subprotocols
from .codes import CloseCode
from .delivery import raw_socket
from .forwarding import request_headers, response_headers, switching_protocols, without_cookie
from .metrics import PROXIED
from .relay import connect_upstream, end, relay
from .tunnel import join
from .upgrade import Upgrade, open_upgrade

# Pauses before further tries where a balancer's server is gone: longer, in all, than the balancer takes to notice.
RETRY_PAUSES_SECONDS = (0.0, 0.25, 1.0)
_BALANCER_REFUSALS = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

Fields = list[tuple[str, str]]
Upstream = Upgrade | ClientConnection


class WebSocketProxy:
    """Proxies the WebSocket `client` to `server_endpoint` (`ws://` or `wss://`, with path): `await proxy()`.

    Best called before the client is accepted. Then the upstream is connected first, and its answer becomes the
    client's: status, reason and headers of a refusal, or subprotocol, cookies and headers of a success; 502 if it
    cannot be reached and 504 if it has not answered within `connect_timeout_seconds`. A client that was accepted before
    is closed instead: 1008 if the upstream refuses it, 1013 if the upstream is not there.

    `headers` are set on the handshake with the upstream and replace the client's of the same names: what the caller
    vouches for. If `Authorization` is among them, tokens that the client offered as subprotocol stay here.

    `sticky_cookie` is the cookie by which a load balancer before the upstream knows a client's server. When it answers
    502, 503 or 504, that server is gone but others may be there: there are up to three further tries, without that
    cookie. None where the answer has a `Retry-After`, for whoever says so wants the client to wait.

    Afterwards text, binary, close codes and reasons pass both ways. A side that does not read stops the other from
    sending; a side that ends, ends the other. There are two ways, which differ in what they can see:

    - Under `server.RawWebSocketProtocol`, for a client that was not accepted before, bytes pass as they are (see
      `tunnel.Tunnel`): fragments, pings, extensions and every limit are between the client and the upstream. If the
      upstream vanishes, or one side reads nothing for a minute, the connections end without a close frame (1006). The
      call returns as soon as the two are connected, and the server holds them.
    - Everywhere else messages pass, one at a time. Pings are answered here, and at most `max_message_bytes` of a
      message from the upstream are taken. A client hears 1012 if the upstream vanishes, 1013 if it reads nothing for a
      minute, and 1000 if it closes without a code. The call returns when both sides have ended.
    """

    def __init__(
        self,
        client: WebSocket,
        server_endpoint: str,
        *,
        headers: Mapping[str, str] | None = None,
        sticky_cookie: str | None = None,
        connect_timeout_seconds: float = 5.0,
        max_message_bytes: int = 16 * 2**20,
    ) -> None:
        self._client = client
        self._server_endpoint = server_endpoint
        self._headers = dict(headers or {})
        self._sticky_cookie = sticky_cookie
        self._connect_timeout_seconds = connect_timeout_seconds
        self._max_message_bytes = max_message_bytes

    async def __call__(self) -> None:
        client = self._client
        if client.client_state is WebSocketState.CONNECTING:
            await client.receive()  # "websocket.connect"
        raw = raw_socket(client) if client.application_state is WebSocketState.CONNECTING else None
        # Listening already while the upstream connects: a client that goes away must not be connected for.
        first = asyncio.ensure_future(client.receive())
        reaching = asyncio.ensure_future(self._reach(self._connect if raw is None else self._upgrade))
        joined = False
        try:
            await asyncio.wait((first, reaching), return_when=asyncio.FIRST_COMPLETED)
            if not reaching.done() and first.result()["type"] == "websocket.disconnect":
                return
            try:
                upstream = await reaching
                if raw is not None and raw.is_open and isinstance(upstream, Upgrade):
                    join(raw, upstream, switching_protocols(await upstream.answer))
                    joined = True
                    PROXIED.labels("accepted").inc()
            except (OSError, InvalidHandshake, InvalidURI) as error:
                await _refuse(client, error)
                return
            if isinstance(upstream, ClientConnection):
                await self._relay(upstream, first)
        except (WebSocketDisconnect, WebSocketDisconnected):
            return  # the client went away during the handshake
        finally:
            await end(first)
            await end(reaching)
            if not joined and not reaching.cancelled() and reaching.exception() is None:
                reaching.result().transport.abort()

    async def _reach(self, connect: Callable[[Fields], Awaitable[Upstream]]) -> Upstream:
        """The upstream that `connect` gets with these headers for its handshake, tried again where that may help."""
        fields = request_headers(self._client, self._headers)
        async with asyncio.timeout(self._connect_timeout_seconds):
            if self._sticky_cookie is not None:
                for pause in RETRY_PAUSES_SECONDS:
                    try:
                        return await connect(fields)
                    except InvalidStatus as refusal:
                        answer = refusal.response
                        if answer.status_code not in _BALANCER_REFUSALS or "Retry-After" in answer.headers:
                            raise
                    fields = without_cookie(fields, self._sticky_cookie)
                    await asyncio.sleep(pause)
            return await connect(fields)

    async def _upgrade(self, fields: Fields) -> Upgrade:
        """For bytes: the handshake is the client's own."""
        if subprotocols := self._subprotocols():
            fields = [*fields, ("Sec-WebSocket-Protocol", ", ".join(subprotocols))]
        extensions = self._client.headers.getlist("sec-websocket-extensions")
        fields = [*fields, *(("Sec-WebSocket-Extensions", offered) for offered in extensions)]
        return await open_upgrade(self._server_endpoint, self._client.headers["sec-websocket-key"], fields)

    async def _connect(self, fields: Fields) -> ClientConnection:
        """For messages: the handshake is one of our own."""
        return await connect_upstream(self._server_endpoint, fields, self._subprotocols(), self._max_message_bytes)

    def _subprotocols(self) -> list[Subprotocol]:
        """What the client offers, without its token where the caller speaks for it."""
        names_caller = any(name.lower() == "authorization" for name in self._headers)
        return [
            Subprotocol(offered)
            for offered in offered_subprotocols(self._client)
            if not (names_caller and offered.startswith(BEARER_SUBPROTOCOL_PREFIX))
        ]

    async def _relay(self, upstream: ClientConnection, first: asyncio.Future[Message]) -> None:
        if self._client.application_state is WebSocketState.CONNECTING:
            await self._client.accept(upstream.subprotocol, response_headers(upstream.response))
        PROXIED.labels("accepted").inc()
        await relay(self._client, upstream, first)


# The handshake's bad endings


async def _refuse(client: WebSocket, error: Exception) -> None:
    """Tell the client why there is no upstream: over HTTP where it is not accepted yet, else with a close code."""
    if isinstance(error, InvalidStatus) and error.response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
        PROXIED.labels("refused").inc()
        refusal = error.response
        response = Response(bytes(refusal.body or b""), refusal.status_code)
        response.raw_headers += response_headers(refusal)
    elif isinstance(error, TimeoutError):
        PROXIED.labels("timed_out").inc()
        response = PlainTextResponse("the server behind did not answer in time\n", HTTPStatus.GATEWAY_TIMEOUT)
    else:
        PROXIED.labels("unreachable").inc()
        response = PlainTextResponse("the server behind cannot be reached\n", HTTPStatus.BAD_GATEWAY)
    accepted = client.application_state is not WebSocketState.CONNECTING
    if not accepted and "websocket.http.response" in client.scope.get("extensions", {}):
        await client.send_denial_response(response)
    elif response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        await client.close(CloseCode.POLICY_VIOLATION, CloseCode.POLICY_VIOLATION.reason)
    else:
        await client.close(CloseCode.OVERLOAD, "the server behind is not available")
