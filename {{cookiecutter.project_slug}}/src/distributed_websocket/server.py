"""`RawWebSocketProtocol`: uvicorn's WebSocket protocol, opened for the library.

    uvicorn --ws distributed_websocket.server:RawWebSocketProtocol --http distributed_websocket.server:QuickUpgrade ...

Pre-framed writes, messages without a task for each connection, and tunnels. The only file that touches uvicorn's
insides; `tests/unit/test_server.py` fails when a new uvicorn changes them. Without it everything works the ASGI way,
with the same results and more work for each message.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame
from websockets.http11 import Request

from .codes import CloseCode
from .delivery import RAW_EXTENSION, Receiver
from .tunnel import Tunnel

ABORT_SECONDS: Final = 5.0
"""How long a connection that is ended may take to accept what is unsent and the close frame."""

LINGER_SECONDS: Final = 1.0
"""How long a client that broke the protocol may take to notice that it was told so."""

MAX_EARLY_BYTES: Final = 64 * 1024
"""Kept of what a client says before its handshake is complete; beyond it, it is not read until then.

What comes in one read with the handshake is uvicorn's to drop (RFC 6455 §4.1 forbids it anyway).
"""

FLOWING_BYTES: Final = 64 * 1024
"""While at most so much is untaken, a client is written to without asking the transport how much it is."""

_ASK: Final = sys.maxsize
_LOST: Final = 1006  # RFC 6455 §7.1.5; never in a frame

_UPGRADE: Final = re.compile(rb"GET [!-~]+ HTTP/1\.1\r\n(?:.+\r\n)*?upgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_HEADER_NAME: Final = re.compile(rb"\r\n[^:\s]+:")


class QuickUpgrade(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which hands a WebSocket handshake on before it has parsed it: that is done once only.

    Just for a first read that is a whole handshake; everything else is parsed, and upgraded, as ever.
    """

    _began = False

    def data_received(self, data: bytes) -> None:
        if not self._began:
            self._began = True
            is_whole = data.find(b"\r\n\r\n") == len(data) - 4  # and nothing is behind it
            if self.ws_protocol_class is not None and is_whole and _UPGRADE.match(data):
                self._unset_keepalive_if_required()
                self.connections.discard(self)
                make: Any = self.ws_protocol_class
                protocol = make(config=self.config, server_state=self.server_state, app_state=self.app_state)
                protocol.connection_made(self.transport)
                self.transport.set_protocol(protocol)
                # The names in ASGI's headers are in lower case. What is passed by here sees to that.
                protocol.data_received(_HEADER_NAME.sub(lambda name: name[0].lower(), data))
                return
        super().data_received(data)


class RawWebSocketProtocol(WebSocketsSansIOProtocol):
    """A `delivery.RawSocket`: everything it writes is whole frames, and so is everything uvicorn writes.

    So frames never interleave, whoever writes first.
    """

    __slots__ = ("_unsent_at_most", "_write")  # what is needed for each write; uvicorn's own are in a large dict

    _unsent_at_most: int
    """What the client has not taken, `FLOWING_BYTES` or less; `_ASK` when it may be more, or nothing may be written."""
    _write: Callable[[bytes], None]
    _receiver: Receiver | None = None
    _tunnel: Tunnel | None = None
    _close_sent = False
    _failed = False
    _early = b""
    _silent = False
    """Whether the client did not answer a ping."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=FLOWING_BYTES)
        self._unsent_at_most = _ASK
        self._write = self.transport.write

    @property
    def close_sent(self) -> bool:
        """Whoever sets it, uvicorn or we, stops the flow."""
        return self._close_sent

    @close_sent.setter
    def close_sent(self, sent: bool) -> None:
        self._close_sent = sent
        self._unsent_at_most = _ASK

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.handshake_complete:
            # The application's task was made, and runs from the next tick on.
            extensions: dict[str, object] = self.scope["extensions"]  # type: ignore[assignment]
            extensions[RAW_EXTENSION] = self

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.close_sent and message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # else uvicorn 0.54 logs an error for each handshake that is refused
        elif self.close_timer is not None and message["type"] == "websocket.close":
            self._abort_in(ABORT_SECONDS)  # uvicorn closes the transport, and then waits for the client (see below)

    def write_frames(self, frames: bytes, max_unsent_bytes: int) -> bool:
        if self._unsent_at_most <= max_unsent_bytes:
            write = self._write
            write(frames)
            return True
        if self.unsent_bytes > max_unsent_bytes:
            return False
        # A transport that is closing would still take them, and send them behind the close frame.
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self._write(frames)
        return True

    def _flow(self) -> None:
        """Write without asking again, from now on."""
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self._unsent_at_most = FLOWING_BYTES

    @property
    def is_open(self) -> bool:
        return not (self.disconnected or self.transport.is_closing())

    @property
    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def end(self, code: CloseCode) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing() or not self.handshake_complete:
            return
        if self.conn.close_rcvd is not None:
            return  # its close frame came in the read that is being handled, and is answered next
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": int(code), "reason": code.reason})
        self.conn.send_close(int(code), code.reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._abort_in(ABORT_SECONDS)

    @property
    def end_code(self) -> int:
        received, sent = self.conn.close_rcvd, self.conn.close_sent
        if received is not None and (sent is None or self.conn.close_rcvd_then_sent):
            return received.code
        return _LOST if sent is None or self._silent else sent.code

    async def drained(self) -> None:
        await self.writable.wait()

    # uvicorn 0.54 closes a transport and then waits, for ever, until the client takes what is unsent. A client that
    # stalls on purpose would keep its connection for as long, and nobody would be told that it is gone.

    def handle_close(self, event: Frame) -> None:
        self._unsent_at_most = _ASK  # the answer is the last frame that it gets
        super().handle_close(event)
        self._abort_if_stalled()

    def keepalive_timeout(self) -> None:
        self._silent = True
        super().keepalive_timeout()
        self._abort_if_stalled()

    # ... and closes a transport at once after a protocol error: what the client has sent meanwhile makes the kernel
    # reset the connection, and the close frame that says what was wrong is lost. So what still comes is read.

    def handle_parser_exception(self) -> None:
        if self._failed:
            return
        self._failed = True
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        self.resume_reading()
        self._abort_in(LINGER_SECONDS)

    def shutdown(self) -> None:
        self._unsent_at_most = _ASK
        if self._tunnel is not None:
            self._tunnel.leave(CloseCode.DRAIN)
            return
        if not self.transport.is_closing():
            super().shutdown()  # it would begin the closing handshake a second time, which is an error
        self._abort_if_stalled()

    def _abort_if_stalled(self) -> None:
        if self.transport.is_closing() and self.unsent_bytes:
            self._abort_in(ABORT_SECONDS)

    def _abort_in(self, seconds: float) -> None:
        """In place of what was to happen: a transport that is aborted after it is lost raises."""
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(seconds, self.transport.abort)

    # Bytes into a tunnel

    def splice(self, tunnel: Tunnel, answer: bytes) -> None:
        self.logger.info(
            '%s - "WebSocket %s" [accepted]', get_client_addr(self.scope), get_path_with_query_string(self.scope)
        )
        self._tunnel = tunnel
        self.handshake_complete = True
        self.close_timer = cast(asyncio.TimerHandle, _HELD_OPEN)
        self.queue = cast("asyncio.Queue[Any]", _NOBODY)
        self.transport.write(answer)
        self._take_early()

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.from_client(data)
        elif self.handshake_initiated and not self.handshake_complete:
            # A client has to wait for the answer to its handshake (RFC 6455 §4.1). What one says before is kept for
            # whoever is to hear it.
            self._early += data
            if len(self._early) > MAX_EARLY_BYTES:
                self.pause_reading()
        else:
            super().data_received(data)

    def start_keepalive(self) -> None:
        # The handshake is complete: uvicorn does this next.
        super().start_keepalive()
        self._flow()
        self._take_early()

    def _take_early(self) -> None:
        early, self._early = self._early, b""
        if early:
            self.resume_reading()
            self.data_received(early)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # as asyncio has it
        self._unsent_at_most = _ASK
        return None if self._tunnel is None else self._tunnel.client_eof()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent_at_most = _ASK
        if self._tunnel is not None:
            self._tunnel.client_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._flow()
        if self._tunnel is not None:
            self._tunnel.client_free()

    # Messages to a receiver instead of the application's task

    def hand_over(self, receiver: Receiver) -> None:
        self._receiver = receiver
        if self.close_timer is None:
            # uvicorn closes the connection when the application returns, unless a timer is about to do so.
            self.close_timer = cast(asyncio.TimerHandle, _HELD_OPEN)
        self.resume_reading()  # the receiver may pause it again, right below
        while not self.queue.empty():  # what came before the hand-over
            event = self.queue.get_nowait()
            if event["type"] == "websocket.receive":
                receiver.on_message(event.get("text"))
            else:
                self._tell_closed()
        self.queue = cast("asyncio.Queue[Any]", _NOBODY)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if self.close_timer is cast(asyncio.TimerHandle, _HELD_OPEN):
            self.close_timer = None
            # Needed for the handshake only; a third of what an idle connection would hold.
            del self.scope, self.request, self.response

    def send_receive_event_to_app(self) -> None:
        if self._receiver is None:
            with contextlib.suppress(InvalidState):  # uvicorn 0.54 does not look at `close_rcvd` (see below)
                super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type != "text":
            self._receiver.on_message(None)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            # A close frame of the client's that came in the same read is parsed already, and answered next.
            if self.conn.close_rcvd is None:
                self.conn.send_close(1007)  # RFC 6455 §8.1
                self.handle_parser_exception()
            return
        self._receiver.on_message(text)

    def pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unsent_at_most = _ASK
        super().connection_lost(exc)
        if self._tunnel is not None:
            self._tunnel.client_lost()
        self._tell_closed()

    def _tell_closed(self) -> None:
        receiver, self._receiver = self._receiver, _DEAF if self._receiver is not None else None
        if receiver is not None:
            receiver.on_closed()


class _HeldOpen:
    """Stands where uvicorn keeps the timer that will close a connection."""

    def cancel(self) -> None: ...


class _Nobody:
    """Stands where uvicorn keeps the queue of events for the application."""

    def put_nowait(self, event: object) -> None: ...


class _Deaf:
    """Receives what still comes after a connection was said to be closed."""

    def on_message(self, text: str | None) -> None: ...

    def on_closed(self) -> None: ...


_HELD_OPEN: Final = _HeldOpen()
_NOBODY: Final = _Nobody()
_DEAF: Final = _Deaf()
