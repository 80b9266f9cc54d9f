"""The relay of messages between a client, over ASGI, and its upstream: the way that every server can go."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Message
from starlette.websockets import WebSocketDisconnected
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Event
from websockets.typing import Subprotocol

from .codes import CloseCode

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


async def connect_upstream(
    endpoint: str, fields: Iterable[tuple[str, str]], subprotocols: Sequence[Subprotocol], max_message_bytes: int
) -> ClientConnection:
    """Raises `InvalidStatus` for a refusal, other `InvalidHandshake`, `InvalidURI` and `OSError`. Waits for ever."""
    return await _Connect(
        endpoint,
        additional_headers=fields,
        user_agent_header=None,
        subprotocols=subprotocols or None,
        compression=None,
        proxy=None,  # else HTTP_PROXY and its like decide where our own workers are
        open_timeout=None,
        close_timeout=CLOSE_SECONDS,
        max_size=max_message_bytes,
        create_connection=_Upstream,
    )


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
        await end(up)
        await end(down)
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


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel what is still running, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
