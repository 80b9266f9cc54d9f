"""The shortest way of a write: taken while a client keeps up, left whenever it does not, or its connection ends."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from distributed_websocket import CloseCode, WebSocketManager
from distributed_websocket.delivery import Bundle, frame_text
from distributed_websocket.limits import Limits
from distributed_websocket.server import FLOWING_BYTES
from tests.deadline import eventually
from tests.workers import RAW, Client, Worker, connected, working

MUCH = 16 * 1024 * 1024


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    manager = WebSocketManager("channel", limits=Limits(unsent_bytes=MUCH, messages_per_second=None))
    async with working(manager, RAW, ws_ping_interval=None) as worker:
        yield worker


@pytest.fixture
async def client(worker: Worker) -> AsyncIterator[Client]:
    async with connected(worker.url) as client:
        await eventually(lambda: len(worker.manager) == 1)
        yield client


def flows(protocol: Any) -> bool:
    return bool(protocol._unsent_at_most == FLOWING_BYTES)


WAYS: dict[str, Callable[[Any], None]] = {
    "the server ends it": lambda protocol: protocol.end(CloseCode.DRAIN),
    "the client closes": lambda protocol: protocol.data_received(b"\x88\x82" + bytes(4) + b"\x03\xe8"),
    "the client breaks the protocol": lambda protocol: protocol.data_received(b"\xf1\x80" + bytes(4)),
    "the server stops": lambda protocol: protocol.shutdown(),
    "a ping is not answered": lambda protocol: protocol.keepalive_timeout(),
    "uvicorn says that it sent a close frame": lambda protocol: setattr(protocol, "close_sent", True),
}


@pytest.mark.parametrize("end", WAYS.values(), ids=WAYS)
async def test_nothing_is_written_behind_the_end_of_a_connection(
    worker: Worker, client: Client, end: Callable[[Any], None]
) -> None:
    (protocol,) = worker.sockets()
    assert flows(protocol)
    end(protocol)
    written: list[bytes] = []
    protocol._write = written.append
    assert protocol.write_frames(frame_text(b"late"), MUCH)
    protocol.resume_writing()  # what was unsent is gone
    assert protocol.write_frames(frame_text(b"later"), MUCH)
    assert written == []
    protocol.transport.abort()  # or the client waits for the rest of a closing handshake


async def test_nothing_is_written_behind_the_applications_close(worker: Worker, client: Client) -> None:
    (protocol,) = worker.sockets()
    (connection,) = worker.manager
    await worker.manager.close_connection(connection, CloseCode.POLICY_VIOLATION)
    assert not flows(protocol)
    assert await client.close_code() == 1008


async def test_a_client_that_stalls_is_asked_about_until_it_has_caught_up(worker: Worker, client: Client) -> None:
    (protocol,) = worker.sockets()
    (connection,) = worker.manager
    text = b'{"type":"' + b"x" * 10_000 + b'"}'
    sent = 0
    while flows(protocol):  # nobody reads meanwhile
        connection.outbox.write(Bundle([text]))
        sent += 1
    assert protocol.unsent_bytes > FLOWING_BYTES
    connection.outbox.write(Bundle([text]))  # the other way, with the same result
    connection.outbox.write(Bundle([b'{"type":"last"}']))
    await client.until("last")
    assert len(client.received) == 1 + sent + 1 + 1
    await eventually(lambda: flows(protocol))


async def test_a_bound_below_what_a_transport_takes_unasked_holds() -> None:
    manager = WebSocketManager("channel", limits=Limits(unsent_bytes=5_000))
    async with working(manager, RAW, ws_ping_interval=None) as worker, connected(worker.url) as client:
        await eventually(lambda: len(manager) == 1)
        (protocol,) = worker.sockets()
        (connection,) = manager
        for _ in range(2_000):  # more than the kernel takes for a client that does not read
            connection.outbox.write(Bundle([b"x" * 10_000]))
        assert connection.outbox.end_code == CloseCode.SLOW
        assert protocol.unsent_bytes < 5_000 + 2 * 10_100
        client.socket.transport.abort()
