"""Which headers a proxy passes on, and which stay where they are."""

import pytest
from starlette.requests import HTTPConnection
from websockets.datastructures import Headers
from websockets.http11 import Response

from distributed_websocket.forwarding import request_headers, response_headers, switching_protocols, without_cookie


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


@pytest.mark.parametrize(
    ("cookies", "kept"),
    [
        (["chat_worker=abc"], []),
        (["a=1; chat_worker=abc; b=2"], ["a=1; b=2"]),
        (["a=1;chat_worker=abc"], ["a=1"]),
        (["chat_worker=abc", "a=1"], ["a=1"]),
        (["chat_worker2=abc; a=chat_worker=abc"], ["chat_worker2=abc; a=chat_worker=abc"]),
    ],
)
def test_one_cookie_is_left_out_and_all_else_stays(cookies: list[str], kept: list[str]) -> None:
    headers = [("X-Before", "chat_worker=abc"), *(("cookie", cookie) for cookie in cookies)]
    assert without_cookie(headers, "chat_worker") == [("X-Before", "chat_worker=abc"), *(("cookie", c) for c in kept)]


def test_bytes_of_a_header_that_are_no_ascii_stay_as_they_are() -> None:
    """RFC 9110 §5.5 lets them pass as opaque data."""
    name = "grüße".encode()
    scope = {"type": "websocket", "scheme": "ws", "headers": [(b"x-name", name)], "client": None}
    assert dict(request_headers(HTTPConnection(scope), {}))["x-name"].encode("latin-1") == name
    response = Response(101, "", Headers([("X-Name", name.decode("latin-1"))]))
    assert response_headers(response) == [(b"x-name", name)]
    assert b"x-name: %b\r\n" % name in switching_protocols(response)


def test_the_answer_to_a_handshake_keeps_what_the_client_has_to_see() -> None:
    answer = Headers()
    for name, value in [
        ("Connection", "Upgrade, X-Hop"),
        ("Upgrade", "websocket"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Server", "behind"),
        ("Sec-WebSocket-Accept", "accept="),
        ("Sec-WebSocket-Protocol", "chat.v1"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Sec-WebSocket-Version", "13"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ]:
        answer[name] = value
    assert switching_protocols(Response(101, "Whatever", answer)).decode().splitlines() == [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: accept=",
        "Sec-WebSocket-Protocol: chat.v1",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "set-cookie: a=1",
        "set-cookie: b=2",
        "",
    ]


def test_there_is_nothing_to_pass_on_of_no_answer() -> None:
    assert response_headers(None) == []
