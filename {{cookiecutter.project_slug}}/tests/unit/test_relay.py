"""Endings that meet in a relay: both sides are in the test's hands, so each comes at the moment that it is about."""

import asyncio
from typing import Any, cast

import pytest
from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Message
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close

from distributed_websocket.relay import relay

TEXT = {"type": "websocket.receive", "text": "hello"}


class Client:
    """One that gives these events, and then is silent; it takes nothing when it is `gone`."""

    def __init__(self, *events: dict[str, Any], gone: bool = False) -> None:
        self.events = list(events)
        self.gone = gone
        self.closed: list[tuple[int, str]] = []

    async def receive(self) -> Message:
        if not self.events:
            await asyncio.Event().wait()
        return self.events.pop(0)

    async def send_text(self, text: str) -> None:
        if self.gone:
            raise WebSocketDisconnect(1006)

    async def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


class Upstream:
    """One that says these things, and then is silent; it takes nothing when it is `closed`."""

    def __init__(self, *said: str, closed: bool = False) -> None:
        self.said = list(said)
        self.heard: list[str] = []
        self.closed = closed
        self.calls: list[tuple[object, ...]] = []
        self.transport = self

    async def recv(self) -> str:
        if not self.said:
            await asyncio.Event().wait()
        return self.said.pop(0)

    async def send(self, text: str) -> None:
        if self.closed:
            raise ConnectionClosed(Close(1000, ""), None)
        self.heard.append(text)

    def close(self, *args: object) -> Any:
        self.calls.append(("close", *args))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def wait_closed(self) -> None:
        self.calls.append(("wait_closed",))


async def relayed(client: Client, upstream: Upstream) -> None:
    first = asyncio.ensure_future(client.receive())
    async with asyncio.timeout(10):
        await relay(cast(WebSocket, client), cast(ClientConnection, upstream), first)


async def test_two_sides_that_are_both_gone_are_told_nothing() -> None:
    """Each pump leaves the ending to the other, which may have found its own destination gone too."""
    client, upstream = Client(TEXT, gone=True), Upstream("hello", closed=True)
    await relayed(client, upstream)
    assert client.closed == []
    assert upstream.calls == []


@pytest.mark.parametrize(
    ("disconnect", "calls"),
    [
        ({"code": 1006}, [("close",), ("wait_closed",)]),
        ({}, [("close", None)]),
        ({"code": 1005}, [("close", None)]),
        ({"code": 4001, "reason": "slow"}, [("close", 4001, "slow")]),
        ({"code": 4001, "reason": None}, [("close", 4001, "")]),
    ],
    ids=["lost", "without a code", "with the code for none", "with a code", "without a reason"],
)
async def test_the_upstream_is_left_as_the_client_left(
    disconnect: dict[str, Any], calls: list[tuple[object, ...]]
) -> None:
    """A server that says 1006 means that there was no close frame, so the upstream gets none (RFC 6455 §7.4.1)."""
    client, upstream = Client(TEXT, {"type": "websocket.disconnect", **disconnect}), Upstream()
    await relayed(client, upstream)
    assert upstream.heard == ["hello"]
    assert upstream.calls == calls
