"""The load test's WebSocket client against a real server, here with plain blocking sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus

import pytest
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.sync.server import Server, ServerConnection, serve

from loadtests.websocket import HandshakeFailed, WebSocket, WebSocketClosed
from tests.redis_server import free_port


@contextmanager
def server(
    handler: Callable[[ServerConnection], None],
    *,
    request: Callable[[ServerConnection, Request], Response | None] | None = None,
    response: Callable[[ServerConnection, Request, Response], Response | None] | None = None,
) -> Iterator[str]:
    running: Server
    with serve(handler, "127.0.0.1", 0, process_request=request, process_response=response) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{running.socket.getsockname()[1]}/ws"
        finally:
            running.shutdown()
            thread.join()


def connect(url: str, **headers: str) -> closing[WebSocket]:
    return closing(WebSocket.connect(url, headers=headers, timeout_seconds=30))


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536, 300_000])
def test_messages_of_every_frame_size_come_back_whole(size: int) -> None:
    with server(echo) as url, connect(url) as client:
        client.send(b"x" * size)
        assert client.receive() == [b"x" * size]


def test_messages_that_came_along_with_the_handshake_are_not_lost() -> None:
    def greet(connection: ServerConnection) -> None:
        for number in range(100):
            connection.send(f"{number}")
        connection.recv()

    with server(greet) as url, connect(url) as client:
        received: list[bytes] = []
        while len(received) < 100:
            received += client.receive()
        assert received == [str(number).encode() for number in range(100)]


def test_fragments_are_joined() -> None:
    with server(lambda connection: connection.send(["one", " and ", "two"])) as url, connect(url) as client:
        assert client.receive() == [b"one and two"]


def test_pings_are_answered() -> None:
    answered = threading.Event()

    def ping(connection: ServerConnection) -> None:
        if connection.ping().wait(30):
            answered.set()
        connection.send("done")

    with server(ping) as url, connect(url) as client:
        assert client.receive() == [b"done"]
        assert answered.is_set()


def test_a_ping_that_came_along_with_the_handshake_is_answered() -> None:
    answers: list[bytes] = []

    def serve_raw(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            protocol = ServerProtocol()
            while not (requests := protocol.events_received()):
                protocol.receive_data(peer.recv(4096))
            request = requests[0]
            assert isinstance(request, Request)
            protocol.send_response(protocol.accept(request))
            protocol.send_ping(b"now")
            peer.sendall(b"".join(protocol.data_to_send()))
            protocol.receive_data(peer.recv(4096))
            answers.extend(bytes(event.data) for event in protocol.events_received() if isinstance(event, Frame))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_raw, args=(listener,))
        thread.start()
        with connect(f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"):
            thread.join(timeout=30)
            assert answers == [b"now"]
        thread.join()


def test_the_code_and_reason_of_the_end_are_told() -> None:
    with server(lambda connection: connection.close(1013, "overloaded")) as url, connect(url) as client:
        with pytest.raises(WebSocketClosed) as closed:
            client.receive()
        assert (closed.value.code, closed.value.reason) == (1013, "overloaded")
        with pytest.raises(WebSocketClosed, match="1013"):
            client.send(b"too late")


def test_a_connection_that_breaks_has_ended_without_a_close_frame() -> None:
    with (
        server(lambda connection: connection.socket.shutdown(2)) as url,
        connect(url) as client,
        pytest.raises(WebSocketClosed, match=r"^1006"),
    ):
        client.receive()


def test_headers_are_sent_and_cookies_without_a_domain_are_read() -> None:
    seen: dict[str, str] = {}

    def note(connection: ServerConnection, request: Request) -> None:
        seen.update(request.headers.raw_items())

    def stick(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers["Set-Cookie"] = "chat_worker=abc123; Path=/; HttpOnly; SameSite=Lax"
        response.headers["Set-Cookie"] = "other=1; Secure"

    with (
        server(echo, request=note, response=stick) as url,
        connect(url, Authorization="Bearer t", Cookie="chat_worker=before") as client,
    ):
        assert client.cookies == {"chat_worker": "abc123", "other": "1"}
    assert (seen["Authorization"], seen["Cookie"]) == ("Bearer t", "chat_worker=before")


def test_a_refused_handshake_says_with_which_status() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "no")

    with server(echo, request=refuse) as url, pytest.raises(HandshakeFailed, match=r"^HTTP 403$"):
        connect(url)


def test_nobody_there_is_a_failed_handshake() -> None:
    with pytest.raises(HandshakeFailed, match="refused"):
        connect(f"ws://127.0.0.1:{free_port()}/ws")


def test_closing_twice_is_harmless() -> None:
    with server(echo) as url, connect(url) as client:
        client.close()
