"""`RawWebSocketProtocol` against a real uvicorn: clients that close, stall, vanish and misbehave."""

import asyncio
import base64
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Frame, Opcode

from distributed_websocket import CloseCode, Connection, Message, WebSocketManager, server
from distributed_websocket.delivery import Bundle, frame_text
from distributed_websocket.limits import Limits
from distributed_websocket.server import RawWebSocketProtocol
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.workers import RAW, Worker, connected, serving, working

OPEN_WIDE = Limits(unsent_bytes=4 * 1024 * 1024, messages_per_second=None)
GOODBYE = b"\x88\x02" + struct.pack("!H", 1000)
"""The answer to a close frame of 1000."""


@pytest.fixture(autouse=True)
def short_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ABORT_SECONDS", 0.2)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    manager = WebSocketManager("channel", limits=OPEN_WIDE)
    async with working(manager, RAW, ws_ping_interval=None) as worker:
        yield worker


class Plain:
    """A client of bytes, for what a well-behaved library would never do."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def frame(self, opcode: int, payload: bytes) -> None:
        self.frames((opcode, payload))

    def frames(self, *frames: tuple[int, bytes]) -> None:
        """In one write, so that the server reads them together."""
        self.writer.write(b"".join(Frame(Opcode(opcode), payload).serialize(mask=True) for opcode, payload in frames))

    def reset(self) -> None:
        """End the connection without a word."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()

    async def rest(self) -> bytes:
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), DEADLINE_SECONDS)
        return b""


@contextlib.asynccontextmanager
async def plain(url: str, path: str = "/ws") -> AsyncIterator[Plain]:
    host, port = url.split("/")[2].split(":")
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=small, limit=4096)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    client = Plain(reader, writer)
    try:
        yield client
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def stall(worker: Worker, unsent_bytes: int = 200_000) -> Any:
    """Fill the only connection's socket until the server holds unsent bytes, and return its protocol."""
    (connection,) = worker.manager
    (protocol,) = worker.sockets()
    while protocol.unsent_bytes < unsent_bytes:
        connection.outbox.write(Bundle([b"x" * 10_000]))
    return protocol


def test_uvicorn_still_is_what_the_protocol_was_written_for() -> None:
    """Each of these is touched by `server.py`: a new uvicorn that renames one must not go unnoticed."""
    made = vars(WebSocketsSansIOProtocol)
    methods = ["handle_connect", "handle_close", "keepalive_timeout", "shutdown", "connection_lost", "on_task_complete"]
    methods += ["send_receive_event_to_app", "handle_parser_exception", "stop_keepalive", "handle_events"]
    methods += ["data_received", "start_keepalive", "eof_received", "pause_writing", "resume_writing"]
    assert [name for name in methods if name not in made] == []
    constants = WebSocketsSansIOProtocol.__init__.__code__.co_names
    for name in ("queue", "conn", "close_sent", "disconnected", "handshake_complete", "close_timer", "read_paused"):
        assert name in constants
    assert "writable" in constants


# Closing


async def test_a_client_that_closes_is_answered_and_forgotten(worker: Worker) -> None:
    async with connected(worker.url) as client:
        await client.socket.close(1000)
        assert client.socket.close_code == 1000
    await eventually(lambda: not worker.sockets() and not len(worker.manager))


async def test_a_client_that_vanishes_is_forgotten(worker: Worker) -> None:
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        client.reset()
        await eventually(lambda: not worker.sockets() and not len(worker.manager))


async def test_a_client_that_closes_while_the_server_stops_is_no_error(worker: Worker) -> None:
    """It ended the stop with `InvalidState`, and what stops after the connections did not."""
    async with connected(worker.url):
        (protocol,) = worker.sockets()
        protocol.data_received(b"\x88\x82" + bytes(4) + b"\x03\xe8")
        protocol.shutdown()
        await eventually(lambda: not worker.sockets())


async def test_ending_sends_the_close_code_behind_what_was_written(worker: Worker) -> None:
    async with connected(worker.url) as client:
        (connection,) = worker.manager
        connection.write_json({"type": "last"})
        connection.outbox.end(CloseCode.DRAIN)
        connection.write_json({"type": "too late"})
        assert await client.close_code() == 1012
        assert [message["type"] for message in client.received] == ["welcome", "last"]
        assert client.socket.close_reason == CloseCode.DRAIN.reason
    await eventually(lambda: not worker.sockets() and not len(worker.manager))


async def test_ending_twice_and_closing_after_it_is_no_error(worker: Worker) -> None:
    async with connected(worker.url) as client:
        (connection,) = worker.manager
        (protocol,) = worker.sockets()
        protocol.end(CloseCode.SLOW)
        protocol.end(CloseCode.DRAIN)
        await connection.close(CloseCode.NORMAL)
        assert await client.close_code() == 4001
    await eventually(lambda: not worker.sockets())
    protocol.end(CloseCode.DRAIN)
    protocol.write_frames(frame_text(b"nobody"), 0)
    protocol.resume_reading()


async def test_the_application_may_close_as_over_asgi(worker: Worker) -> None:
    async with connected(worker.url) as client:
        (connection,) = worker.manager
        await worker.manager.close_connection(connection, CloseCode.POLICY_VIOLATION)
        assert await client.close_code() == 1008
    await eventually(lambda: not worker.sockets())


async def test_ending_a_connection_whose_client_is_closing_is_no_error(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """It raised: the batch was repeated to everybody else, and the publisher's task ended."""
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        protocol = stall(worker)
        client.frame(0x8, struct.pack("!H", 1000))
        await eventually(protocol.transport.is_closing)
        (connection,) = worker.manager
        unsent = protocol.unsent_bytes
        connection.outbox.write(Bundle([b"behind the close frame"]))
        assert protocol.unsent_bytes == unsent
        connection.outbox.end(CloseCode.SLOW)
        await eventually(lambda: not worker.sockets() and not len(worker.manager))
    assert not caplog.records


async def test_a_request_that_ends_a_connection_whose_close_frame_came_with_it_is_no_error(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.manager.on("leave")(lambda connection, message: connection.outbox.end(CloseCode.DRAIN))
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        client.frames((0x1, b'{"type":"leave"}'), (0x8, struct.pack("!H", 1000)))
        assert (await client.rest()).endswith(GOODBYE)
    await eventually(lambda: not worker.sockets() and not len(worker.manager))
    assert not caplog.records


# Stalling


async def test_a_client_that_stalls_is_ended_with_4001_and_its_memory_is_bounded() -> None:
    manager = WebSocketManager("channel", limits=Limits(unsent_bytes=500_000))
    async with working(manager, RAW, ws_ping_interval=None) as worker, plain(worker.url):
        await eventually(lambda: len(manager) == 1)
        (connection,) = manager
        (protocol,) = worker.sockets()
        for _ in range(200):
            connection.outbox.write(Bundle([b"x" * 100_000]))
        assert protocol.unsent_bytes < 700_000
        assert protocol.close_sent
        await eventually(lambda: not worker.sockets() and not len(manager))


async def test_a_client_that_stalls_and_never_answers_a_ping_is_aborted() -> None:
    """uvicorn closes such a transport and waits for it, for ever: the connection was never said to be gone."""
    manager = WebSocketManager("channel", limits=OPEN_WIDE)
    async with working(manager, RAW, ws_ping_interval=None, ws_ping_timeout=0.05) as worker, plain(worker.url):
        await eventually(lambda: len(manager) == 1)
        protocol = stall(worker)
        protocol.ping_interval = 0.05  # from now on: it must not be gone before it stalls
        protocol.start_keepalive()
        await eventually(lambda: not worker.sockets() and not len(manager))


async def test_a_client_that_stalls_does_not_hold_up_the_end_of_the_server() -> None:
    manager = WebSocketManager("channel", limits=OPEN_WIDE)
    async with contextlib.AsyncExitStack() as stack:
        async with working(manager, RAW, ws_ping_interval=None) as worker:
            await stack.enter_async_context(plain(worker.url))
            await eventually(lambda: len(manager) == 1)
            stall(worker)
            worker.server.should_exit = True
            await eventually(lambda: not worker.sockets())
        assert len(manager) == 0


async def test_a_connection_that_is_lost_is_not_aborted_any_more() -> None:
    """Its close and then the stop of the server each set a time, and only the last of them was cancelled."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with working(WebSocketManager("channel", limits=OPEN_WIDE), RAW) as worker, plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        protocol = stall(worker)
        protocol.data_received(b"\x88\x82" + bytes(4) + b"\x03\xe8")
        protocol.shutdown()
        await client.rest()
        await eventually(lambda: not worker.sockets())
        await asyncio.sleep(1.5 * server.ABORT_SECONDS)  # longer than any time that was set
    assert failures == []


@pytest.mark.parametrize("unsent_bytes", [1, 200_000], ids=["a little unsent", "much unsent"])
async def test_a_client_that_stalls_is_closed_without_waiting_for_it(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, unsent_bytes: int
) -> None:
    """With a little unsent uvicorn sends the close frame, and never ends the connection."""
    monkeypatch.setattr("distributed_websocket.connection.CLOSE_SECONDS", 0.1)
    async with plain(worker.url):
        await eventually(lambda: len(worker.manager) == 1)
        stall(worker, unsent_bytes)
        (connection,) = worker.manager
        await worker.manager.close_connection(connection, CloseCode.DRAIN)
        await eventually(lambda: not worker.sockets())


async def test_writing_waits_for_a_slow_client_only_where_it_is_asked_to(worker: Worker) -> None:
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        stall(worker)
        (connection,) = worker.manager
        flushed = asyncio.create_task(connection.outbox.flushed())
        async with connected(worker.url) as other:
            await other.nothing_more()
        assert not flushed.done(), "somebody else came, said something and was answered meanwhile"
        reading = asyncio.create_task(client.rest())
        await asyncio.wait_for(flushed, DEADLINE_SECONDS)
        connection.outbox.end(CloseCode.DRAIN)
        await asyncio.wait_for(reading, DEADLINE_SECONDS)


# Messages


async def test_requests_that_wait_hold_back_their_own_client_only_and_keep_its_order(worker: Worker) -> None:
    async with connected(worker.url) as client:
        await client.send("subscribe", topic="room/1", ref=0)
        for number in range(1, 40):
            await client.send("history" if number % 2 else "no such type", topic="room/1", ref=number)
        while len(client.received) < 41:
            await client.receive()
        assert [message["ref"] for message in client.received[1:]] == list(range(40))


async def test_fragments_are_one_message(worker: Worker) -> None:
    async with connected(worker.url) as client:
        await client.socket.send(iter(['{"type":"subscribe",', '"topic":"room/1",', '"ref":1}']))
        assert (await client.until("subscribed"))["ref"] == 1


async def test_a_binary_message_is_answered_with_an_error(worker: Worker) -> None:
    async with connected(worker.url) as client:
        await client.socket.send(b"binary")
        assert (await client.until("error"))["code"] == "malformed_json"


async def test_text_that_is_no_utf_8_ends_the_connection_with_1007(worker: Worker) -> None:
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        client.frame(0x1, b"\xff\xfe")
        assert struct.pack("!H", 1007) in await client.rest()
    await eventually(lambda: not worker.sockets() and not len(worker.manager))


async def test_text_that_is_no_utf_8_before_a_close_frame_leaves_the_last_word_to_the_client(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """Both in one read: the close frame was parsed already, and a second one is an error that cut the connection."""
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        client.frames((0x1, b"\xff\xfe"), (0x8, struct.pack("!H", 1000)))
        assert (await client.rest()).endswith(GOODBYE)
    await eventually(lambda: not worker.sockets() and not len(worker.manager))
    assert not caplog.records


async def test_a_frame_that_breaks_the_protocol_ends_the_connection_with_1002(worker: Worker) -> None:
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        client.writer.write(b"\x83\x00")
        assert struct.pack("!H", 1002) in await client.rest()
    await eventually(lambda: not worker.sockets() and not len(worker.manager))


async def test_a_client_that_goes_on_breaking_the_protocol_is_told_once(worker: Worker) -> None:
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        (protocol,) = worker.sockets()
        protocol.data_received(b"\x83\x00")
        timer = protocol.close_timer
        protocol.data_received(b"\x83\x00")
        assert protocol.close_timer is timer, "it may put off its end"
        assert (await client.rest()).count(struct.pack("!H", 1002)) == 1
    await eventually(lambda: not worker.sockets() and not len(worker.manager))


async def test_what_comes_after_the_end_is_not_handled(worker: Worker) -> None:
    async with plain(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        (connection,) = worker.manager
        (protocol,) = worker.sockets()
        protocol.pause_reading()
        protocol.pause_reading()
        client.frame(0x1, b'{"type":"subscribe","topic":"late"}')
        client.frame(0x2, b"late")
        await client.writer.drain()
        connection.outbox.end(CloseCode.DRAIN)
        await client.rest()
        assert connection.topics == set()
    await eventually(lambda: not worker.sockets())


async def test_an_exception_in_a_request_ends_its_connection_with_1011_and_no_other(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(connection: Any, topic: str) -> bool:
        raise ZeroDivisionError

    async with connected(worker.url) as client, connected(worker.url) as neighbour:
        monkeypatch.setattr(worker.manager.policy, "may_publish", broken)
        await client.send("send", topic="room/1")
        assert await client.close_code() == 1011
        await neighbour.nothing_more()
    assert "unforeseen way" in caplog.text


# Around the hand-over


Endpoint = Callable[[WebSocket], Any]


@contextlib.asynccontextmanager
async def endpoint(function: Endpoint) -> AsyncIterator[tuple[Any, str]]:
    app = FastAPI()
    app.websocket("/ws")(function)
    async with serving(app, RAW, ws_ping_interval=None) as (running, address):
        yield running, f"ws://{address}/ws"


async def test_what_a_client_said_before_the_hand_over_is_handled() -> None:
    async with WebSocketManager("channel") as manager:
        go_on = asyncio.Event()

        async def handle(websocket: WebSocket) -> None:
            connection = await manager.new_connection(websocket, "c1")
            await go_on.wait()
            await manager.serve(connection)

        async with endpoint(handle) as (running, url), connected(url) as client:
            await client.send("subscribe", topic="room/1", ref=1)
            await client.send("no such type", ref=2)
            (protocol,) = running.server_state.connections
            await eventually(lambda: not protocol.queue.empty())
            go_on.set()
            await client.until("subscribed")
            assert (await client.until("error"))["ref"] == 2


async def test_what_is_held_back_since_before_the_hand_over_is_bounded() -> None:
    """The hand-over resumed the reading that its first messages had paused: a client filled the memory behind them."""
    async with WebSocketManager("channel", limits=OPEN_WIDE) as manager:
        go_on, answer = asyncio.Event(), asyncio.Event()

        @manager.on("ask")
        async def ask(connection: Connection, message: Message) -> None:
            await answer.wait()

        async def handle(websocket: WebSocket) -> None:
            connection = await manager.new_connection(websocket, "c1")
            await go_on.wait()
            await manager.serve(connection)

        async with endpoint(handle) as (running, url), plain(url) as client:
            (protocol,) = running.server_state.connections
            client.frames((0x1, b'{"type":"ask"}'), (0x1, b'{"type":"ask"}'))
            await eventually(lambda: protocol.queue.qsize() == 2)
            go_on.set()
            await eventually(lambda: protocol._receiver is not None)
            client.frames(*[(0x1, b"x" * 60_000)] * 200)
            async with connected(url) as neighbour:
                for _ in range(100):  # in each of them, as much as the client sent would be read
                    await neighbour.nothing_more()
            held_back = sum(len(text) for text in protocol._receiver._held_back)
            answer.set()
            assert held_back < 1_000_000


async def test_text_that_is_no_utf_8_before_a_close_frame_is_no_error_before_the_hand_over_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with WebSocketManager("channel") as manager:
        go_on = asyncio.Event()

        async def handle(websocket: WebSocket) -> None:
            connection = await manager.new_connection(websocket, "c1")
            await go_on.wait()
            await manager.serve(connection)

        async with endpoint(handle) as (running, url), plain(url) as client:
            await eventually(lambda: len(manager) == 1)
            client.frames((0x1, b"\xff\xfe"), (0x8, struct.pack("!H", 1000)))
            said = await client.rest()
            go_on.set()
            assert said.endswith(GOODBYE)
            await eventually(lambda: not running.server_state.connections and not len(manager))
    assert [record.message for record in caplog.records] == ["Invalid UTF-8 sequence received from client."]


@pytest.mark.parametrize("how", ["closes", "vanishes", "is ended"])
async def test_a_client_that_goes_before_the_hand_over_is_forgotten(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ABORT_SECONDS", 60)
    async with WebSocketManager("channel") as manager:
        go_on = asyncio.Event()

        async def handle(websocket: WebSocket) -> None:
            connection = await manager.new_connection(websocket, "c1")
            await go_on.wait()
            await manager.serve(connection)

        async with endpoint(handle) as (running, url), plain(url) as client:
            await eventually(lambda: len(manager) == 1)
            if how == "closes":
                client.frame(0x8, struct.pack("!H", 1000))
                await eventually(lambda: not running.server_state.connections)
            elif how == "vanishes":
                client.reset()
                await eventually(lambda: not running.server_state.connections)
            else:
                (connection,) = manager
                connection.outbox.end(CloseCode.DRAIN)
            go_on.set()
            await eventually(lambda: len(manager) == 0)
            if how == "is ended":
                client.frame(0x8, struct.pack("!H", 1012))
            await eventually(lambda: not running.server_state.connections)


async def test_a_handshake_that_is_refused_never_opens_the_raw_way() -> None:
    async def refuse(websocket: WebSocket) -> None:
        raw: RawWebSocketProtocol = websocket.scope["extensions"]["distributed_websocket.raw"]
        raw.write_frames(frame_text(b"not yet"), 0)
        raw.end(CloseCode.DRAIN)
        await websocket.close(1008)

    async with endpoint(refuse) as (_, url):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None)
        assert refused.value.response.status_code == 403


async def test_a_request_that_is_no_websocket_handshake_is_refused() -> None:
    async def unused(websocket: WebSocket) -> None:
        raise AssertionError

    async with endpoint(unused) as (_, url):
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
        writer.close()
        await writer.wait_closed()


# Quick upgrades


@contextlib.asynccontextmanager
async def quick(protocol: str = RAW) -> AsyncIterator[tuple[Any, str]]:
    """A service with a page and a WebSocket that says where it is, behind `QuickUpgrade`; and its address."""
    app = FastAPI()

    @app.get("/page")
    async def page() -> str:
        return "page"

    @app.websocket("/ws")
    async def where(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(f"{websocket.query_params} {websocket.headers.get('x-word')}")

    async with serving(app, protocol, http=server.QuickUpgrade) as (running, address):
        yield running, address


HANDSHAKE = (
    b"GET /ws?a=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Word: Said\r\n\r\n"
)
PAGE = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("protocol", [RAW, "websockets-sansio"])
@pytest.mark.parametrize(
    "parts",
    [[HANDSHAKE], [HANDSHAKE[:20], HANDSHAKE[20:]], [PAGE, HANDSHAKE]],
    ids=["at once", "in two parts", "after a request"],
)
async def test_a_handshake_is_upgraded_however_it_comes(parts: list[bytes], protocol: str) -> None:
    async with quick(protocol) as (running, address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for part in parts:
            writer.write(part)
            await writer.drain()
            if part == PAGE:
                assert await reader.readuntil(b'"page"')
            elif part != parts[-1]:  # else both may come at once
                await eventually(lambda: [it for it in running.server_state.connections if it._began])
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(10) == b"\x81\x08a=1 Said"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "behind", [b"\x83\x00\r\n\r\n", b"\x88\x86\0\0\0\0\x03\xe8\r\n\r\n"], ids=["no frame", "close"]
)
async def test_what_comes_in_one_read_with_a_handshake_is_no_part_of_it(
    behind: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It was answered before the handshake was: an exception in the log for each, or a pong in front of the 101."""
    async with quick() as (_, address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(HANDSHAKE + behind)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(10) == b"\x81\x08a=1 Said"
        writer.close()
        await writer.wait_closed()
    assert not caplog.records


@pytest.mark.parametrize(
    "request_",
    [PAGE, PAGE.replace(b"x\r\n", b"x\r\nX-Upgrade: websocket\r\n"), PAGE[:-2] + b"X: upgrade: websocket\r\n\r\n"],
)
async def test_a_plain_request_is_answered_as_ever(request_: bytes) -> None:
    async with quick() as (_, address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_)
        assert await reader.readuntil(b'"page"')
        writer.close()
        await writer.wait_closed()


async def test_without_a_websocket_protocol_nothing_is_upgraded(caplog: pytest.LogCaptureFixture) -> None:
    async with quick("none") as (_, address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(HANDSHAKE)
        assert b" 404 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_an_endpoint_that_uses_asgi_alone_works_as_ever() -> None:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    async with endpoint(echo) as (running, url):
        async with connect(url, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            with pytest.raises(ConnectionClosedError):
                await client.recv()
        await eventually(lambda: not running.server_state.connections)
