"""Gateways that proxy every WebSocket to one upstream, upstreams, and a client of bytes: all on the test's loop."""

import asyncio
import base64
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from distributed_websocket.proxy import WebSocketProxy
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.workers import LoopServer

MIB = 2**20
MESSAGE = b"z" * 2**16


class Way(Enum):
    """How a proxy passes on what comes after the handshake; the value is uvicorn's WebSocket protocol."""

    RELAY = "websockets-sansio"
    SPLICE = "distributed_websocket.server:RawWebSocketProtocol"


@dataclass
class Gateway:
    address: tuple[str, int]
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return "ws://{}:{}/ws".format(*self.address)

    @property
    def sockets(self) -> list[Any]:
        """uvicorn's protocols, one for each open connection."""
        return list(self.server.server_state.connections)

    @property
    def holds_nothing(self) -> bool:
        return not (self.sockets or self.server.server_state.tasks)


@contextlib.asynccontextmanager
async def gateway(
    way: Way,
    endpoint: str,
    *,
    accept_first: bool = False,
    headers: Mapping[str, str] | None = None,
    sticky_cookie: str | None = None,
    connect_timeout_seconds: float = 5.0,
    max_message_bytes: int = 16 * MIB,
    send_buffer_bytes: int | None = None,
    certificate: tuple[str, str] | None = None,
) -> AsyncIterator[Gateway]:
    app = FastAPI()

    @app.websocket("/ws")
    async def websocket_proxy(websocket: WebSocket) -> None:
        if accept_first:
            await websocket.accept()
        await WebSocketProxy(
            websocket,
            endpoint,
            headers=headers,
            sticky_cookie=sticky_cookie,
            connect_timeout_seconds=connect_timeout_seconds,
            max_message_bytes=max_message_bytes,
        )()

    config = uvicorn.Config(
        app,
        ws=way.value,
        ws_max_size=16 * MIB,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        proxy_headers=False,  # else it believes X-Forwarded-For, as this client has a trusted address
        ssl_certfile=certificate[0] if certificate else None,
        ssl_keyfile=certificate[1] if certificate else None,
    )
    server = LoopServer(config)
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await eventually(lambda: server.started)
    try:
        yield Gateway(listener.getsockname(), server)
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, DEADLINE_SECONDS)


Handler = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def upstream(
    handler: Handler,
    *,
    process_request: Callable[[ServerConnection, Request], Response | None] | None = None,
    process_response: Callable[[ServerConnection, Request, Response], Response | None] | None = None,
    subprotocols: list[Subprotocol] | None = None,
    compression: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """A WebSocket server, and its URL."""
    async with serve(
        handler,
        "127.0.0.1",
        0,
        process_request=process_request,
        process_response=process_response,
        subprotocols=subprotocols,
        compression=compression,
        max_size=16 * MIB,
        close_timeout=1,
        ssl=tls,
    ) as server:
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{port_of(server)}/behind"


@contextlib.asynccontextmanager
async def tcp_upstream(
    handler: Callable[[bytes, asyncio.StreamWriter], Awaitable[None]],
    readers: list[asyncio.StreamReader] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """A server that does with each request whatever `handler` does, and the URL of a WebSocket there.

    `readers` gets the other half of each connection.
    """

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            if readers is not None:
                readers.append(reader)
            await handler(request, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{port_of(server)}/"


def port_of(server: Server | asyncio.Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


class Recorder:
    """An upstream that keeps what it hears and how each of its connections ended."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.heard: list[str | bytes] = []
        self.ended: list[tuple[int, str]] = []

    async def __call__(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                self.heard.append(message)
        assert connection.close_code is not None
        self.ended.append((connection.close_code, connection.close_reason or ""))


async def closed_by_peer(connection: ClientConnection | ServerConnection) -> tuple[int, str]:
    """The code and the reason that the connection ends with; what is heard before is dropped."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.recv()
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""


@dataclass
class BytesClient:
    """A client that says and hears frames as they are, for what a well-behaved library would never do."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str = ""

    async def hear_head(self) -> None:
        """Wait for the answer to the handshake."""
        self.head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_SECONDS)).decode()

    def say(self, opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> None:
        self.writer.write(masked(opcode, payload, fin=fin))

    async def hear(self) -> Frame:
        """The next frame. Raises `EOFError` at the end."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            first, second = await self.reader.readexactly(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
            payload = await self.reader.readexactly(length)
        return Frame(Opcode(first & 0x0F), payload, *(bool(first & bit) for bit in (0x80, 0x40, 0x20, 0x10)))

    async def close_code(self) -> int:
        """Of the next close frame; 1005 if it has none, 1006 if the connection ends without."""
        try:
            while (frame := await self.hear()).opcode is not Opcode.CLOSE:
                pass
        except (EOFError, ConnectionError):
            return 1006
        return int.from_bytes(frame.data[:2], "big") if frame.data else 1005


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """A frame as a client sends it, or as none should: `reserved` are three bits that RFC 6455 §5.2 wants to be 0."""
    length = len(payload)
    size = length if length < 126 else 126 if length < 65_536 else 127
    extended = b"" if size < 126 else length.to_bytes(2 if size == 126 else 8, "big")
    key = os.urandom(4)
    head = bytes((fin << 7 | reserved << 4 | opcode, 0x80 | size)) + extended + key
    return head + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


@contextlib.asynccontextmanager
async def bytes_client(
    front: Gateway, *, extensions: str = "", wait: bool = True, receive_buffer_bytes: int | None = None
) -> AsyncIterator[BytesClient]:
    """One that has sent its handshake, and, unless it does not `wait`, has got the answer."""
    connection = socket.socket()
    if receive_buffer_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, front.address)
    reader, writer = await asyncio.open_connection(sock=connection, limit=2**12)
    client = BytesClient(reader, writer)
    key = base64.b64encode(os.urandom(16)).decode()
    offered = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    writer.write(
        f"GET /ws HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{offered}"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    try:
        if wait:
            await client.hear_head()
        yield client
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
