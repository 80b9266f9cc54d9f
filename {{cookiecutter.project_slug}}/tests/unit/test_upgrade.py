"""`Upgrade`: an answer to a handshake, in whatever pieces it comes, and what comes behind it."""

import asyncio
from unittest.mock import Mock

import pytest
from websockets.exceptions import InvalidHandshake

from distributed_websocket.upgrade import Upgrade, open_upgrade

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def connected() -> tuple[Upgrade, Mock]:
    transport = Mock(spec=asyncio.Transport)
    upgrade = Upgrade(b"request")
    upgrade.connection_made(transport)
    transport.write.assert_called_once_with(b"request")
    return upgrade, transport


async def test_what_comes_behind_the_answer_is_kept_in_order() -> None:
    upgrade, transport = connected()
    upgrade.data_received(ANSWER[:20])
    assert not upgrade.answer.done()
    upgrade.data_received(ANSWER[20:] + b"one ")
    transport.pause_reading.assert_called_once_with()
    upgrade.data_received(b"two ")  # a transport may have read it before it was paused
    upgrade.data_received(b"three")
    assert (await upgrade.answer).status_code == 101
    assert upgrade.rest == b"one two three"


async def test_what_comes_behind_a_refusal_is_ignored() -> None:
    upgrade, transport = connected()
    upgrade.data_received(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    upgrade.data_received(b"HTTP/1.1 ")
    upgrade.eof_received()
    upgrade.connection_lost(None)
    response = await upgrade.answer
    assert (response.status_code, response.body) == (403, b"no")
    transport.pause_reading.assert_not_called()


async def test_an_answer_that_nobody_waits_for_any_more_is_ignored() -> None:
    upgrade, _ = connected()
    upgrade.answer.cancel()
    upgrade.data_received(ANSWER)
    upgrade.connection_lost(ConnectionResetError())


async def test_a_refusal_without_a_length_ends_with_the_connection() -> None:
    upgrade, _ = connected()
    upgrade.data_received(b"HTTP/1.1 503 Service Unavailable\r\n\r\nnot ")
    upgrade.data_received(b"now")
    assert not upgrade.answer.done()
    upgrade.eof_received()
    assert (await upgrade.answer).body == b"not now"


async def test_an_answer_without_end_is_none() -> None:
    upgrade, _ = connected()
    for _ in range(100):
        upgrade.data_received(b"x" * 1000)
    with pytest.raises(InvalidHandshake):
        await upgrade.answer


async def test_the_host_header_names_the_port_unless_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    async def create_connection(make: object, host: str, port: int, *, ssl: object) -> None:
        assert callable(make)
        requests.append(make()._request.decode().splitlines()[:2])
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection, raising=False)
    for endpoint in ("ws://chat.example/ws?a=1", "wss://chat.example", "ws://[::1]:8001/ws", "wss://chat.example:80/"):
        with pytest.raises(ConnectionRefusedError):
            await open_upgrade(endpoint, "key", [])
    assert requests == [
        ["GET /ws?a=1 HTTP/1.1", "Host: chat.example"],
        ["GET / HTTP/1.1", "Host: chat.example"],
        ["GET /ws HTTP/1.1", "Host: [::1]:8001"],
        ["GET / HTTP/1.1", "Host: chat.example:80"],
    ]
