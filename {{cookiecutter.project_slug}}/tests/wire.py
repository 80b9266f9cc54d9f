"""A client without a network: the other end of a Starlette `WebSocket`, or of a raw socket, in the test's hands."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import orjson
from fastapi import WebSocket

from distributed_websocket import CloseCode, Connection
from distributed_websocket.delivery import RAW_EXTENSION, Receiver
from distributed_websocket.limits import Limits
from distributed_websocket.tunnel import Tunnel
from tests.deadline import eventually

Event = MutableMapping[str, Any]
Fields = dict[str, Any]


class Wire:
    """What the server sends is in `events`; what the client says is put with `say`. `stall` and `vanish` spoil it."""

    def __init__(self, raw: "RawWire | None" = None) -> None:
        self.events: list[Event] = []
        self.failure: BaseException | None = None
        self._taking = asyncio.Event()
        self._taking.set()
        self._incoming: asyncio.Queue[Event] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
        if raw is not None:
            self.scope["extensions"] = {RAW_EXTENSION: raw}
        self.websocket = WebSocket(self.scope, self._incoming.get, self._send)

    async def _send(self, event: Event) -> None:
        await self._taking.wait()
        if self.failure is not None:
            raise self.failure
        self.events.append(event)
        if event["type"] == "websocket.close":
            self._incoming.put_nowait({"type": "websocket.disconnect", "code": event["code"]})

    def stall(self) -> None:
        """Take nothing more."""
        self._taking.clear()

    def resume(self) -> None:
        self._taking.set()

    def vanish(self, code: int = 1006) -> None:
        """Be gone: the next send fails, and the next receive says so."""
        self.failure = OSError("gone")
        self._taking.set()
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": code})

    def say(self, message: Any) -> None:
        """Send a text frame; a `bytes` is sent as a binary one."""
        kind = "bytes" if isinstance(message, bytes) else "text"
        payload = message if isinstance(message, (str, bytes)) else orjson.dumps(message).decode()
        self._incoming.put_nowait({"type": "websocket.receive", kind: payload})

    @property
    def received(self) -> list[Fields]:
        return [orjson.loads(event["text"]) for event in self.events if event["type"] == "websocket.send"]

    @property
    def close_codes(self) -> list[int]:
        return [event["code"] for event in self.events if event["type"] == "websocket.close"]

    async def gets(self, count: int) -> list[Fields]:
        """The first `count` messages, when they are there."""
        await eventually(lambda: len(self.received) >= count)
        return self.received[:count]


async def accepted(
    wire: Wire, conn_id: str = "c1", limits: Limits | None = None, user: str | None = None
) -> Connection:
    connection = Connection(wire.websocket, conn_id, user=user, limits=limits or Limits())
    await connection.accept()
    return connection


class RawWire:
    """A `RawSocket` that remembers what was written; `unsent_bytes` is the test's to set."""

    transport: asyncio.Transport  # there is none
    is_open = True
    end_code = 1006

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.unsent_bytes = 0
        self.ends: list[CloseCode] = []
        self.ended_at = 0.0
        self.failure: Exception | None = None
        self.receiver: Receiver | None = None
        self.paused = False

    def hand_over(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def splice(self, tunnel: Tunnel, answer: bytes) -> None:
        raise AssertionError("nothing is proxied here")

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write_frames(self, frames: bytes, max_unsent_bytes: int) -> bool:
        if self.unsent_bytes > max_unsent_bytes:
            return False
        if self.failure is not None:
            raise self.failure
        self.writes.append(frames)
        return True

    def end(self, code: CloseCode) -> None:
        self.ends.append(code)
        self.ended_at = asyncio.get_running_loop().time()

    async def drained(self) -> None:
        """Everything was taken."""

    @property
    def texts(self) -> list[bytes]:
        """The payloads of all frames written."""
        texts, rest = [], b"".join(self.writes)
        while rest:
            assert rest[0] == 0x81
            length, start = rest[1], 2
            if length == 126:
                length, start = int.from_bytes(rest[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(rest[2:10], "big"), 10
            texts.append(rest[start : start + length])
            rest = rest[start + length :]
        return texts

    @property
    def received(self) -> list[Fields]:
        return [orjson.loads(text) for text in self.texts]


def raw_connection(wire: RawWire, conn_id: str = "c1", limits: Limits | None = None) -> Connection:
    """A connection over a raw socket, as `RawWebSocketProtocol` offers it."""
    scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "extensions": {RAW_EXTENSION: wire}}

    async def unused(*_: Any) -> Any:
        raise AssertionError("a raw connection does not go through ASGI")

    return Connection(WebSocket(scope, unused, unused), conn_id, limits=limits or Limits())
