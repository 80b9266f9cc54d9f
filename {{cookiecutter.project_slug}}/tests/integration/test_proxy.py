"""`distributed_websocket.proxy` between a real `websockets` client, a real uvicorn and a real `websockets` server."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from starlette.requests import HTTPConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from distributed_websocket import proxy
from distributed_websocket.forwarding import request_headers
from distributed_websocket.proxy import WebSocketProxy

DEADLINE_SECONDS = 10
MESSAGE = b"z" * 2**16

Handler = Callable[[ServerConnection], Awaitable[None]]


# A gateway and upstreams, all on the event loop of the test


class LoopServer(uvicorn.Server):
    """uvicorn on the running loop, which leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Gateway:
    address: tuple[str, int]
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return "ws://{}:{}/ws".format(*self.address)

    def sockets(self) -> list[asyncio.Protocol]:
        return list(self.server.server_state.connections)


@contextlib.asynccontextmanager
async def gateway(
    endpoint: str,
    *,
    accept_first: bool = False,
    headers: Mapping[str, str] | None = None,
    connect_timeout_seconds: float = 5.0,
    max_message_bytes: int = 2**24,
    send_buffer_bytes: int | None = None,
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
            connect_timeout_seconds=connect_timeout_seconds,
            max_message_bytes=max_message_bytes,
        )()

    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=2**24,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        proxy_headers=False,  # else it believes X-Forwarded-For, as this client has a trusted address
    )
    server = LoopServer(config)
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer_bytes is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    try:
        yield Gateway(listener.getsockname(), server)
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, DEADLINE_SECONDS)


@contextlib.asynccontextmanager
async def upstream(
    handler: Handler,
    *,
    process_request: Callable[[ServerConnection, Request], Response | None] | None = None,
    process_response: Callable[[ServerConnection, Request, Response], Response | None] | None = None,
    subprotocols: list[Subprotocol] | None = None,
) -> AsyncIterator[str]:
    async with serve(
        handler,
        "127.0.0.1",
        0,
        process_request=process_request,
        process_response=process_response,
        subprotocols=subprotocols,
        compression=None,
        max_size=2**24,
        close_timeout=1,
    ) as server:
        yield f"ws://127.0.0.1:{port_of(server)}/behind"


def port_of(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def stands_still(figure: Callable[[], int]) -> int:
    """The value of `figure` once it has stopped changing for half a second."""
    last, since = figure(), time.monotonic()
    while time.monotonic() - since < 0.5:
        await asyncio.sleep(0.01)
        if figure() != last:
            last, since = figure(), time.monotonic()
    return last


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def closed_by_peer(connection: ClientConnection | ServerConnection) -> tuple[int, str]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.recv()
    assert connection.close_code is not None
    return connection.close_code, connection.close_reason or ""


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


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    before |= {task for task in (asyncio.current_task(),) if task is not None}
    await until(lambda: not asyncio.all_tasks() - before)


# Messages


@pytest.mark.parametrize("accept_first", [False, True], ids=["not accepted before", "accepted before"])
@pytest.mark.parametrize(
    "message",
    ["hello", "", "grüße 🎈", b"\x00\xff", b"", "x" * 100_000, b"y" * 2**20],
    ids=["text", "empty text", "unicode", "binary", "empty binary", "100 kB of text", "1 MiB of binary"],
)
async def test_a_message_passes_both_ways_as_it_is(message: str | bytes, accept_first: bool) -> None:
    async with (
        upstream(echo) as endpoint,
        gateway(endpoint, accept_first=accept_first) as front,
        connect(front.url, proxy=None, max_size=2**24) as client,
    ):
        await client.send(message)
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == message


async def test_a_fragmented_message_arrives_whole() -> None:
    async with upstream(echo) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        await client.send(["one ", "two ", "three"])
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == "one two three"


async def test_messages_keep_their_order_both_ways() -> None:
    async with upstream(echo) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        for number in range(500):
            await client.send(str(number))
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert [await client.recv() for _ in range(500)] == [str(number) for number in range(500)]


async def test_what_the_client_says_before_it_closes_still_arrives() -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            for number in range(200):
                await client.send(str(number))
        await until(lambda: recorder.ended)
    assert recorder.heard == [str(number) for number in range(200)]


async def test_what_the_upstream_says_before_it_closes_still_arrives() -> None:
    async def last_words(connection: ServerConnection) -> None:
        for number in range(200):
            await connection.send(str(number))
        await connection.close(4001, "slow")

    async with upstream(last_words) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        heard = []
        with contextlib.suppress(ConnectionClosed):
            async for message in client:
                heard.append(message)
    assert heard == [str(number) for number in range(200)]
    assert client.close_code == 4001


async def test_last_words_reach_a_slow_client_that_keeps_talking() -> None:
    """A proxy that stops as soon as one direction fails loses what the other still holds."""
    ended = asyncio.Event()

    async def last_words(connection: ServerConnection) -> None:
        for _ in range(12):
            await connection.send(MESSAGE)
        await connection.close(4001, "slow")
        ended.set()

    async with upstream(last_words) as endpoint, gateway(endpoint, send_buffer_bytes=2**15) as front:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)
        narrow.connect(front.address)
        async with connect(front.url, sock=narrow, max_queue=1) as client:
            await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)
            for _ in range(20):
                await client.send("and another thing")
                await asyncio.sleep(0.01)
            heard = 0
            with contextlib.suppress(ConnectionClosed):
                async for _ in client:
                    heard += 1
    assert heard == 12
    assert client.close_code == 4001


# The end


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "tab closed"), (3000, "x" * 123), (4321, "grüße"), (4999, "")]
)
async def test_the_close_code_of_the_client_reaches_the_upstream(code: int, reason: str) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            await client.close(code, reason)
        await until(lambda: recorder.ended)
    assert recorder.ended == [(code, reason)]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "bye"), (1008, "no"), (1012, "drain"), (1013, ""), (3000, "x" * 123), (4001, "grüße")],
)
@pytest.mark.parametrize("accept_first", [False, True], ids=["not accepted before", "accepted before"])
async def test_the_close_code_of_the_upstream_reaches_the_client(code: int, reason: str, accept_first: bool) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    async with (
        upstream(close) as endpoint,
        gateway(endpoint, accept_first=accept_first) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert await closed_by_peer(client) == (code, reason)


async def test_a_close_without_a_code_reaches_the_upstream_without_one() -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            await client.close(None)  # type: ignore[arg-type]  # sends an empty close frame
        await until(lambda: recorder.ended)
    assert recorder.ended == [(CloseCode.NO_STATUS_RCVD, "")]


async def test_a_close_of_the_upstream_without_a_code_is_a_normal_closure() -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(None)  # type: ignore[arg-type]  # sends an empty close frame

    async with upstream(close) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        assert await closed_by_peer(client) == (1000, "")


async def test_a_client_that_vanishes_ends_its_upstream_connection_at_once() -> None:
    """The original waited for both directions, so the upstream connection of every client that left stayed open."""
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            await until(lambda: recorder.connections)
            client.transport.abort()
            started = time.monotonic()
            await until(lambda: recorder.ended)
            assert time.monotonic() - started < 1
        await until(lambda: not front.server.server_state.tasks)


async def test_an_upstream_that_vanishes_tells_the_client_to_come_back() -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        await until(lambda: recorder.connections)
        recorder.connections[0].transport.abort()
        started = time.monotonic()
        assert (await closed_by_peer(client))[0] == 1012
        assert time.monotonic() - started < 1


async def test_an_upstream_that_keeps_its_tcp_connection_after_its_close_does_not_keep_the_client() -> None:
    stop = asyncio.Event()

    async def half_closed(connection: ServerConnection) -> None:
        connection.transport.pause_reading()  # so it never sees our answer
        connection.protocol.send_close(4001, "slow")
        connection.send_data()
        await stop.wait()

    async with upstream(half_closed) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        started = time.monotonic()
        assert await closed_by_peer(client) == (4001, "slow")
        assert time.monotonic() - started < 2
        stop.set()


async def test_a_cancelled_proxy_leaves_no_upstream_connection() -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None):
        await until(lambda: recorder.connections)
        for task in front.server.server_state.tasks:
            task.cancel()
        await until(lambda: recorder.ended)


async def test_a_message_of_the_upstream_beyond_the_bound_ends_both_sides_with_a_code_that_is_nobody_elses() -> None:
    ended: list[int | None] = []

    async def shout(connection: ServerConnection) -> None:
        await connection.send("x" * 2000)
        await connection.wait_closed()
        ended.append(connection.close_code)

    async with upstream(shout) as endpoint, gateway(endpoint, max_message_bytes=1000) as front:
        async with connect(front.url, proxy=None) as client:
            assert (await closed_by_peer(client))[0] == 1011
        await until(lambda: ended)
    assert ended == [1009]


async def test_a_stopping_gateway_ends_both_sides() -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        await until(lambda: recorder.connections)
        front.server.should_exit = True
        assert (await closed_by_peer(client))[0] == 1012
        await until(lambda: recorder.ended)
    assert recorder.ended[0][0] == 1012


# The handshake


async def test_the_upstreams_subprotocol_cookies_and_headers_reach_the_client() -> None:
    def decorate(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = "chat_worker=abc; Path=/; HttpOnly; SameSite=Lax"
        response.headers["Set-Cookie"] = "second=2"
        response.headers["X-Worker"] = "chat-1"
        response.headers["Keep-Alive"] = "timeout=5"

    protocols = [Subprotocol("chat.v1")]
    async with (
        upstream(echo, process_response=decorate, subprotocols=protocols) as endpoint,
        gateway(endpoint) as front,
        connect(front.url, proxy=None, subprotocols=[Subprotocol("other"), *protocols]) as client,
    ):
        assert client.subprotocol == "chat.v1"
        assert client.response is not None
        headers = client.response.headers
        assert headers.get_all("Set-Cookie") == ["chat_worker=abc; Path=/; HttpOnly; SameSite=Lax", "second=2"]
        assert headers["X-Worker"] == "chat-1"
        assert "Keep-Alive" not in headers
        assert len(headers.get_all("Sec-WebSocket-Accept")) == len(headers.get_all("Date") or [""]) == 1


@pytest.mark.parametrize("status", [302, 400, 401, 403, 429, 503])
async def test_a_refusal_of_the_upstream_reaches_the_client(status: int) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(status, f"because {status}")
        response.headers["Retry-After"] = "7"
        response.headers["Location"] = "ws://127.0.0.1:1/"
        response.headers["Set-Cookie"] = "a=1"
        response.headers["Set-Cookie"] = "b=2"
        return response

    async with upstream(echo, process_request=refuse) as endpoint, gateway(endpoint) as front:
        # A client of websockets would follow the redirect, which is not what is asked here.
        reader, writer = await asyncio.open_connection(*front.address)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head, _, body = (await asyncio.wait_for(reader.read(), DEADLINE_SECONDS)).decode().partition("\r\n\r\n")
        writer.close()
    lines = head.lower().split("\r\n")
    assert lines[0].startswith(f"http/1.1 {status} ")
    assert body == f"because {status}"
    assert [line for line in lines if line.startswith("set-cookie:")] == ["set-cookie: a=1", "set-cookie: b=2"]
    assert "retry-after: 7" in lines
    assert sum(line.startswith("content-length:") for line in lines) == 1


async def refused(url: str) -> tuple[int, float]:
    """The status that a handshake ends with, and after how many seconds."""
    started = time.monotonic()
    with pytest.raises(InvalidStatus) as error:
        async with asyncio.timeout(DEADLINE_SECONDS), connect(url, proxy=None):
            pass
    return error.value.response.status_code, time.monotonic() - started


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_an_upstream_that_is_not_there_is_a_502() -> None:
    async with gateway(f"ws://127.0.0.1:{free_port()}/") as front:
        status, seconds = await refused(front.url)
    assert status == 502
    assert seconds < 2


async def test_an_upstream_that_does_not_answer_is_a_504_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with gateway(f"ws://127.0.0.1:{silent.getsockname()[1]}/", connect_timeout_seconds=0.3) as front:
            status, seconds = await refused(front.url)
    assert status == 504
    assert 0.3 <= seconds < 2


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    ids=["nothing", "noise", "200"],
)
async def test_an_upstream_that_speaks_no_websocket_is_a_502(answer: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server, gateway(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as front:
        assert (await refused(front.url))[0] == 502


async def test_a_client_that_vanishes_while_the_upstream_connects_is_not_connected_for() -> None:
    ended: list[bytes] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.append(b"")
        writer.close()

    waiting = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    endpoint = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, gateway(endpoint, connect_timeout_seconds=DEADLINE_SECONDS * 2) as front:
        connecting = asyncio.ensure_future(connect(front.url, proxy=None).connect())
        await asyncio.wait_for(waiting.wait(), DEADLINE_SECONDS)
        connecting.cancel()
        await until(lambda: ended)
        await until(lambda: not front.server.server_state.tasks)


async def test_an_accepted_client_is_closed_where_the_upstream_is_not_there() -> None:
    async with (
        gateway(f"ws://127.0.0.1:{free_port()}/", accept_first=True) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert (await closed_by_peer(client))[0] == 1013


@pytest.mark.parametrize(("status", "code"), [(401, 1008), (403, 1008), (503, 1013)])
async def test_an_accepted_client_is_closed_where_the_upstream_refuses(status: int, code: int) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(status, "")

    async with (
        upstream(echo, process_request=refuse) as endpoint,
        gateway(endpoint, accept_first=True) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert (await closed_by_peer(client))[0] == code


async def test_the_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """websockets 15 began to obey HTTP_PROXY and its like, which then decide where our own workers are."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "WS_PROXY", "ws_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    async with upstream(echo) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        await client.send("hello")
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == "hello"


# Request headers


async def test_the_upstream_hears_who_calls_from_the_gateway_and_not_from_the_client() -> None:
    recorder = Recorder()
    own = {"Authorization": "Bearer good", "X-Tenant": "ours"}
    async with upstream(recorder) as endpoint, gateway(endpoint, headers=own) as front:
        forged = {
            "Authorization": "Bearer forged",
            "X-Tenant": "theirs",
            "X_Tenant": "theirs",
            "X-Forwarded-For": "10.0.0.1",
            "X-Forwarded-User": "admin",
            "X-Auth-Request-User": "admin",
            "Remote-User": "admin",
            "Forwarded": "for=10.0.0.1",
            "X-Real-IP": "10.0.0.1",
            "TE": "trailers",
            "Proxy-Authorization": "Basic eA==",
            "Cookie": "chat_worker=abc",
            "Traceparent": "00-1-2-01",
        }
        offered = [Subprotocol("chat.v1"), Subprotocol("bearer.forged")]
        async with connect(
            front.url, proxy=None, additional_headers=forged, subprotocols=offered, user_agent_header="tests"
        ):
            await until(lambda: recorder.connections)
        request = recorder.connections[0].request
    assert request is not None
    host = front.url.removeprefix("ws://").removesuffix("/ws")
    got = {name.lower(): value for name, value in request.headers.raw_items()}
    assert len(got) == len(list(request.headers.raw_items()))
    for name in ("host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"):
        assert name in got
        del got[name]
    assert got == {
        "authorization": "Bearer good",
        "x-tenant": "ours",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": host,
        "cookie": "chat_worker=abc",
        "traceparent": "00-1-2-01",
        "user-agent": "tests",
        "sec-websocket-protocol": "chat.v1",
    }


async def test_without_headers_of_its_own_the_gateway_passes_the_clients_token_on() -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(endpoint) as front:
        offered = [Subprotocol("chat.v1"), Subprotocol("bearer.T")]
        async with connect(
            front.url, proxy=None, additional_headers={"Authorization": "Bearer T"}, subprotocols=offered
        ):
            await until(lambda: recorder.connections)
        request = recorder.connections[0].request
    assert request is not None
    assert request.headers["Authorization"] == "Bearer T"
    assert request.headers["Sec-WebSocket-Protocol"] == "chat.v1, bearer.T"


def test_a_client_over_tls_is_forwarded_as_https() -> None:
    scope = {"type": "websocket", "scheme": "wss", "headers": [(b"host", b"chat.example")], "client": ("192.0.2.7", 1)}
    assert dict(request_headers(HTTPConnection(scope), {})) == {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Host": "chat.example",
    }


def test_headers_that_are_for_this_hop_alone_stay_here() -> None:
    """RFC 9110 §7.6.1: Connection names headers that are not to be forwarded."""
    headers = [(b"connection", b"Upgrade, X-Hop"), (b"x-hop", b"1"), (b"upgrade", b"websocket"), (b"x-end", b"2")]
    scope = {"type": "websocket", "scheme": "ws", "headers": headers, "client": None}
    assert dict(request_headers(HTTPConnection(scope), {})) == {"x-end": "2", "X-Forwarded-Proto": "http"}


# Backpressure

MESSAGES = 1024  # 64 MiB in all
# What may wait between the two ends: a few messages in the gateway, the rest in the kernel's socket buffers.
IN_FLIGHT_BYTES = 24 * 2**20
GATEWAY_BYTES = 2**20


async def test_a_client_that_does_not_read_stops_the_upstream_and_loses_nothing() -> None:
    sent = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        for _ in range(MESSAGES):
            await connection.send(MESSAGE)
            sent += len(MESSAGE)
        await connection.close()

    async with (
        upstream(flood) as endpoint,
        gateway(endpoint) as front,
        connect(front.url, proxy=None, max_queue=1) as client,
    ):
        assert await stands_still(lambda: sent) < IN_FLIGHT_BYTES
        assert write_buffer(front) < GATEWAY_BYTES
        async with asyncio.timeout(DEADLINE_SECONDS * 2):
            assert [len(message) async for message in client] == [len(MESSAGE)] * MESSAGES


async def test_an_upstream_that_does_not_read_stops_the_client_and_loses_nothing() -> None:
    heard: list[int] = []
    reading = asyncio.Event()

    async def sleepy(connection: ServerConnection) -> None:
        await reading.wait()
        async for message in connection:
            heard.append(len(message))

    sent = 0

    async def flood(client: ClientConnection) -> None:
        nonlocal sent
        for _ in range(MESSAGES):
            await client.send(MESSAGE)
            sent += len(MESSAGE)

    async with upstream(sleepy) as endpoint, gateway(endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            flooding = asyncio.create_task(flood(client))
            assert await stands_still(lambda: sent) < IN_FLIGHT_BYTES
            assert queued(front) < GATEWAY_BYTES
            reading.set()
            await asyncio.wait_for(flooding, DEADLINE_SECONDS * 2)
        await until(lambda: len(heard) == MESSAGES)
    assert heard == [len(MESSAGE)] * MESSAGES


def write_buffer(front: Gateway) -> int:
    """Bytes that the gateway holds for its clients' sockets."""
    sizes = [protocol.transport.get_write_buffer_size() for protocol in front.sockets()]  # type: ignore[attr-defined]
    return sum(sizes)


def queued(front: Gateway) -> int:
    """Bytes of messages that the gateway has read from its clients and not passed on."""
    return sum(protocol.queue.qsize() * len(MESSAGE) for protocol in front.sockets())  # type: ignore[attr-defined]


async def test_a_side_that_never_reads_is_dropped_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a stopped worker would hold its clients' connections for ever, the gone ones' too."""
    monkeypatch.setattr(proxy, "STALL_SECONDS", 0.3)
    stop = asyncio.Event()

    async def deaf(connection: ServerConnection) -> None:
        await stop.wait()

    async with upstream(deaf) as endpoint, gateway(endpoint) as front, connect(front.url, proxy=None) as client:
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(DEADLINE_SECONDS * 2):
                while True:
                    await client.send(MESSAGE)
        assert client.close_code == 1013
        await until(lambda: not front.server.server_state.tasks)
        stop.set()
