"""`OriginPolicy`: which sites' pages may connect. What a refusal does to a handshake is in `test_auth.py`."""

import pytest
from starlette.requests import HTTPConnection

from distributed_websocket.origin import OriginPolicy


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "allowed"),
    [
        (None, "chat.example", "ws", True),
        ("http://chat.example", "chat.example", "ws", True),
        ("http://chat.example:80", "chat.example", "ws", True),
        ("http://chat.example", "chat.example:80", "ws", True),
        ("HTTP://Chat.Example", "chat.EXAMPLE", "ws", True),
        ("http://localhost:8000", "localhost:8000", "ws", True),
        ("http://[::1]:8000", "[::1]:8000", "ws", True),
        ("https://chat.example", "chat.example", "wss", True),
        ("https://chat.example", "chat.example", "ws", True),  # behind a TLS terminator
        ("http://chat.example", "chat.example", "wss", False),  # a page that anyone on the way can change
        ("http://localhost:8001", "localhost:8000", "ws", False),
        ("http://evil.example", "chat.example", "ws", False),
        ("http://chat.example.evil.example", "chat.example", "ws", False),
        ("http://evilchat.example", "chat.example", "ws", False),
        ("http://chat.example@evil.example", "chat.example", "ws", False),
        ("http://evil.example/http://chat.example", "chat.example", "ws", False),
        ("http://chat.example/", "chat.example", "ws", False),
        ("http://chat.example\n", "chat.example", "ws", False),
        ("http://chat.example http://evil.example", "chat.example", "ws", False),
        ("ftp://chat.example", "chat.example", "ws", False),
        ("chat.example", "chat.example", "ws", False),
        ("null", "chat.example", "ws", False),
        ("null", "null", "ws", False),
        ("", "", "ws", False),
        ("http://chat.example", None, "ws", False),
        ("http://chat.example", "chat.example, evil.example", "ws", False),
    ],
)
def test_by_default_a_page_may_connect_to_its_own_host(
    origin: str | None, host: str | None, scheme: str, allowed: bool
) -> None:
    assert OriginPolicy().allows(origin, host=host, scheme=scheme) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("https://app.example:443", True),
        ("https://APP.example", True),
        ("http://localhost:3000", True),
        ("capacitor://localhost", True),
        (None, True),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://app.example.evil.example", False),
        ("https://evil.example?https://app.example", False),
        ("https://sub.app.example", False),
        ("https://appXexample", False),
        ("http://localhost", False),
        ("http://localhost:30000", False),
        ("https://api.example", False),  # the host itself is not on the list
        ("null", False),
    ],
)
def test_an_allow_list_is_compared_whole(origin: str | None, allowed: bool) -> None:
    policy = OriginPolicy(["https://app.example", "http://localhost:3000", "capacitor://localhost"])
    assert policy.allows(origin, host="api.example", scheme="wss") is allowed


@pytest.mark.parametrize("entry", ["*", "https://*.example", "app.example", "null", "https://app.example/path", ""])
def test_an_allow_list_holds_origins_only(entry: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        OriginPolicy([entry])


def test_two_origins_are_refused() -> None:
    raw = [(b"host", b"chat.example"), (b"origin", b"http://chat.example"), (b"origin", b"http://evil.example")]
    twice = HTTPConnection({"type": "websocket", "scheme": "ws", "headers": raw})
    assert not OriginPolicy().allows_connection(twice)
