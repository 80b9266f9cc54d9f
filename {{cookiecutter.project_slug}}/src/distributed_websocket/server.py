"""`RawWebSocketProtocol`: uvicorn's WebSocket protocol, opened for pre-framed writes.

    uvicorn --ws distributed_websocket.server:RawWebSocketProtocol ...

The only file that touches uvicorn's insides; `tests/unit/test_server.py` fails when a new uvicorn changes them. Without
it everything works the ASGI way, with the same results and more work for each message.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from .codes import CloseCode
from .delivery import RAW_EXTENSION

ABORT_SECONDS: Final = 5.0
"""How long a connection that is ended may take to accept what is unsent and the close frame."""


class RawWebSocketProtocol(WebSocketsSansIOProtocol):
    """A `delivery.RawSocket`: everything it writes is whole frames, and so is everything uvicorn writes.

    So frames never interleave, whoever writes first.
    """

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and not self.handshake_complete:
            # The application's task was made, and runs from the next tick on.
            extensions: dict[str, object] = self.scope["extensions"]  # type: ignore[assignment]
            extensions[RAW_EXTENSION] = self

    def write_frames(self, frames: bytes) -> None:
        if self.handshake_complete and not self.close_sent:
            self.transport.write(frames)

    @property
    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def end(self, code: CloseCode) -> None:
        if self.close_sent or self.disconnected:
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": int(code), "reason": code.reason})
        self.conn.send_close(int(code), code.reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(ABORT_SECONDS, self.transport.abort)
