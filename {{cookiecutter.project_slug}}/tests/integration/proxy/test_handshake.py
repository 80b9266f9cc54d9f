"""The handshake: the upstream's answer becomes the client's, and the client's headers become the upstream's."""

import asyncio
import contextlib
import socket
import struct
import time

import pytest
from fastapi import WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from distributed_websocket import proxy
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.proxying import Recorder, Way, bytes_client, closed_by_peer, echo, free_port, gateway, tcp_upstream, upstream

# The handshake


async def test_the_upstreams_subprotocol_cookies_and_headers_reach_the_client(way: Way) -> None:
    def decorate(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = "chat_worker=abc; Path=/; HttpOnly; SameSite=Lax"
        response.headers["Set-Cookie"] = "second=2"
        response.headers["X-Worker"] = "chat-1"
        response.headers["Keep-Alive"] = "timeout=5"

    protocols = [Subprotocol("chat.v1")]
    async with (
        upstream(echo, process_response=decorate, subprotocols=protocols) as endpoint,
        gateway(way, endpoint) as front,
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
async def test_a_refusal_of_the_upstream_reaches_the_client(way: Way, status: int) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(status, f"because {status}")
        response.headers["Retry-After"] = "7"
        response.headers["Location"] = "ws://127.0.0.1:1/"
        response.headers["Set-Cookie"] = "a=1"
        response.headers["Set-Cookie"] = "b=2"
        return response

    async with (
        upstream(echo, process_request=refuse) as endpoint,
        gateway(way, endpoint) as front,
        bytes_client(front) as client,  # one of websockets would follow the redirect
    ):
        head, body = client.head, (await asyncio.wait_for(client.reader.read(), DEADLINE_SECONDS)).decode()
    lines = head.lower().splitlines()
    assert lines[0].startswith(f"http/1.1 {status} ")
    assert body == f"because {status}"
    assert [line for line in lines if line.startswith("set-cookie:")] == ["set-cookie: a=1", "set-cookie: b=2"]
    assert "retry-after: 7" in lines
    assert sum(line.startswith("content-length:") for line in lines) == 1


async def refused(url: str) -> int:
    """The status that a handshake ends with."""
    with pytest.raises(InvalidStatus) as error:
        async with asyncio.timeout(DEADLINE_SECONDS), connect(url, proxy=None):
            pass
    return error.value.response.status_code


async def test_an_upstream_that_is_not_there_is_a_502(way: Way) -> None:
    nowhere = f"ws://127.0.0.1:{free_port()}/"
    async with gateway(way, nowhere, connect_timeout_seconds=6 * DEADLINE_SECONDS) as front:  # it is not waited for
        assert await refused(front.url) == 502


async def test_an_upstream_that_does_not_answer_is_a_504_within_the_deadline(way: Way) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with gateway(way, f"ws://127.0.0.1:{silent.getsockname()[1]}/", connect_timeout_seconds=0.3) as front:
            started = time.monotonic()
            assert await refused(front.url) == 504
            assert 0.3 <= time.monotonic() - started < 5, "the proxy's own deadline is 5 s"


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    ids=["nothing", "noise", "200"],
)
async def test_an_upstream_that_speaks_no_websocket_is_a_502(way: Way, answer: bytes) -> None:
    async def other(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with tcp_upstream(other) as endpoint, gateway(way, endpoint) as front:
        assert await refused(front.url) == 502


async def test_an_upstream_that_resets_the_connection_is_a_502(way: Way) -> None:
    async def reset(request: bytes, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with tcp_upstream(reset) as endpoint, gateway(way, endpoint) as front:
        assert await refused(front.url) == 502


async def test_a_client_that_vanishes_while_it_is_refused_is_no_error(
    way: Way, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def lose(client: object, error: Exception) -> None:
        raise WebSocketDisconnect(1006)

    monkeypatch.setattr(proxy, "_refuse", lose)
    async with gateway(way, f"ws://127.0.0.1:{free_port()}/") as front, bytes_client(front) as client:
        await eventually(lambda: front.holds_nothing)
        assert client.head
    assert "Exception in ASGI application" not in caplog.text


async def test_a_client_that_vanishes_while_the_upstream_connects_is_not_connected_for(way: Way) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    readers: list[asyncio.StreamReader] = []

    async def silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        waiting.set()
        with contextlib.suppress(ConnectionError):
            await readers[0].read()
        ended.set()

    async with (
        tcp_upstream(silent, readers) as endpoint,
        gateway(way, endpoint, connect_timeout_seconds=DEADLINE_SECONDS * 2) as front,
    ):
        connecting = asyncio.ensure_future(connect(front.url, proxy=None).connect())
        await asyncio.wait_for(waiting.wait(), DEADLINE_SECONDS)
        connecting.cancel()
        await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)
        await eventually(lambda: front.holds_nothing)


async def test_an_accepted_client_is_closed_where_the_upstream_is_not_there(way: Way) -> None:
    async with (
        gateway(way, f"ws://127.0.0.1:{free_port()}/", accept_first=True) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert (await closed_by_peer(client))[0] == 1013


@pytest.mark.parametrize(("status", "code"), [(401, 1008), (403, 1008), (503, 1013)])
async def test_an_accepted_client_is_closed_where_the_upstream_refuses(way: Way, status: int, code: int) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(status, "")

    async with (
        upstream(echo, process_request=refuse) as endpoint,
        gateway(way, endpoint, accept_first=True) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert (await closed_by_peer(client))[0] == code


async def test_the_proxy_of_the_environment_is_not_asked(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """websockets 15 began to obey HTTP_PROXY and its like, which then decide where our own workers are."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "WS_PROXY", "ws_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "")
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, connect(front.url, proxy=None) as client:
        await client.send("hello")
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == "hello"


# Request headers


async def test_the_upstream_hears_who_calls_from_the_gateway_and_not_from_the_client(way: Way) -> None:
    recorder = Recorder()
    own = {"Authorization": "Bearer good", "X-Tenant": "ours"}
    async with upstream(recorder) as endpoint, gateway(way, endpoint, headers=own) as front:
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
            front.url,
            proxy=None,
            additional_headers=forged,
            subprotocols=offered,
            user_agent_header="tests",
            compression=None,
        ):
            await eventually(lambda: recorder.connections)
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


async def test_without_headers_of_its_own_the_gateway_passes_the_clients_token_on(way: Way) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front:
        offered = [Subprotocol("chat.v1"), Subprotocol("bearer.T")]
        async with connect(
            front.url, proxy=None, additional_headers={"Authorization": "Bearer T"}, subprotocols=offered
        ):
            await eventually(lambda: recorder.connections)
        request = recorder.connections[0].request
    assert request is not None
    assert request.headers["Authorization"] == "Bearer T"
    assert request.headers["Sec-WebSocket-Protocol"] == "chat.v1, bearer.T"
