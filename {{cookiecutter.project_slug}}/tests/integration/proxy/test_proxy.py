"""What passes between a real `websockets` client and a real `websockets` server through the proxy, and how both end."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from distributed_websocket import relay, tunnel
from distributed_websocket.codes import may_reconnect
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.proxying import MESSAGE, MIB, Gateway, Recorder, Way, closed_by_peer, echo, gateway, upstream


@pytest.fixture
def long_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends in time does not end by the time that a close may take."""
    for module in (relay, tunnel):
        monkeypatch.setattr(module, "CLOSE_SECONDS", 6 * DEADLINE_SECONDS)


RELAY_ONLY = pytest.mark.parametrize("way", [Way.RELAY], indirect=True)

# Messages


@pytest.mark.parametrize("accept_first", [False, True], ids=["not accepted before", "accepted before"])
@pytest.mark.parametrize(
    "message",
    ["hello", "", "grüße 🎈", b"\x00\xff", b"", "x" * 100_000, b"y" * MIB],
    ids=["text", "empty text", "unicode", "binary", "empty binary", "100 kB of text", "1 MiB of binary"],
)
async def test_a_message_passes_both_ways_as_it_is(way: Way, message: str | bytes, accept_first: bool) -> None:
    async with (
        upstream(echo) as endpoint,
        gateway(way, endpoint, accept_first=accept_first) as front,
        connect(front.url, proxy=None, max_size=16 * MIB) as client,
    ):
        await client.send(message)
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == message


async def test_a_fragmented_message_arrives_whole(way: Way) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, connect(front.url, proxy=None) as client:
        await client.send(["one ", "two ", "three"])
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == "one two three"


async def test_messages_keep_their_order_both_ways(way: Way) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, connect(front.url, proxy=None) as client:
        for number in range(500):
            await client.send(str(number))
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert [await client.recv() for _ in range(500)] == [str(number) for number in range(500)]


async def test_what_the_client_says_before_it_closes_still_arrives(way: Way) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            for number in range(200):
                await client.send(str(number))
        await eventually(lambda: recorder.ended)
    assert recorder.heard == [str(number) for number in range(200)]


async def test_what_the_upstream_says_before_it_closes_still_arrives(way: Way) -> None:
    async def last_words(connection: ServerConnection) -> None:
        for number in range(200):
            await connection.send(str(number))
        await connection.close(4001, "slow")

    async with (
        upstream(last_words) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None) as client,
    ):
        heard = []
        with contextlib.suppress(ConnectionClosed):
            async for message in client:
                heard.append(message)
    assert heard == [str(number) for number in range(200)]
    assert client.close_code == 4001


async def test_last_words_reach_a_slow_client_that_keeps_talking(way: Way) -> None:
    """A proxy that stops as soon as one direction fails loses what the other still holds."""
    ended = asyncio.Event()

    async def last_words(connection: ServerConnection) -> None:
        for _ in range(8):
            await connection.send(MESSAGE)
        await connection.close(4001, "slow")
        ended.set()

    async with upstream(last_words) as endpoint, gateway(way, endpoint, send_buffer_bytes=2**15) as front:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)
        narrow.connect(front.address)
        async with connect(front.url, sock=narrow, max_queue=1) as client:
            await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)
            for _ in range(20):
                await client.send("and another thing")
                await asyncio.sleep(0.01)  # one after the other: each meets a connection that was closed
            heard = 0
            with contextlib.suppress(ConnectionClosed):
                async for _ in client:
                    heard += 1
    assert heard == 8
    assert client.close_code == 4001


# The end


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "tab closed"), (3000, "x" * 123), (4321, "grüße"), (4999, "")]
)
async def test_the_close_code_of_the_client_reaches_the_upstream(way: Way, code: int, reason: str) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            await client.close(code, reason)
        await eventually(lambda: recorder.ended)
    assert recorder.ended == [(code, reason)]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "bye"), (1008, "no"), (1012, "drain"), (1013, ""), (3000, "x" * 123), (4001, "grüße")],
)
@pytest.mark.parametrize("accept_first", [False, True], ids=["not accepted before", "accepted before"])
async def test_the_close_code_of_the_upstream_reaches_the_client(
    way: Way, code: int, reason: str, accept_first: bool
) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    async with (
        upstream(close) as endpoint,
        gateway(way, endpoint, accept_first=accept_first) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert await closed_by_peer(client) == (code, reason)


async def test_a_close_without_a_code_reaches_the_upstream_without_one(way: Way) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            await client.close(None)  # type: ignore[arg-type]  # sends an empty close frame
        await eventually(lambda: recorder.ended)
    assert recorder.ended == [(CloseCode.NO_STATUS_RCVD, "")]


async def test_a_close_of_the_upstream_without_a_code_is_a_normal_closure(way: Way) -> None:
    """ASGI cannot send a close frame without a code."""

    async def close(connection: ServerConnection) -> None:
        await connection.close(None)  # type: ignore[arg-type]  # sends an empty close frame

    async with upstream(close) as endpoint, gateway(way, endpoint) as front, connect(front.url, proxy=None) as client:
        expected = CloseCode.NORMAL_CLOSURE if way is Way.RELAY else CloseCode.NO_STATUS_RCVD
        assert await closed_by_peer(client) == (expected, "")


@pytest.mark.usefixtures("long_close")
async def test_a_client_that_vanishes_ends_its_upstream_connection_at_once(way: Way) -> None:
    """The original waited for both directions, so the upstream connection of every client that left stayed open."""
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            await eventually(lambda: recorder.connections)
            client.transport.abort()
            await eventually(lambda: recorder.ended)
        await eventually(lambda: front.holds_nothing)


async def test_a_client_that_vanishes_ends_an_upstream_that_talks(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CLOSE_SECONDS", 0.5)
    ended = asyncio.Event()

    async def flood(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(MESSAGE)
        ended.set()

    async with upstream(flood) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            await client.recv()
            client.transport.abort()
            await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)
        await eventually(lambda: front.holds_nothing)


@pytest.mark.usefixtures("long_close")
async def test_an_upstream_that_vanishes_tells_the_client_to_come_back(way: Way) -> None:
    recorder = Recorder()
    async with (
        upstream(recorder) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None) as client,
    ):
        await eventually(lambda: recorder.connections)
        recorder.connections[0].transport.abort()
        code, _ = await closed_by_peer(client)
        assert code == (1012 if way is Way.RELAY else 1006)
        assert may_reconnect(code)
        await eventually(lambda: front.holds_nothing)


async def test_an_upstream_that_keeps_its_tcp_connection_after_its_close_does_not_keep_the_client(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "CLOSE_SECONDS", 0.5)
    monkeypatch.setattr(relay, "CLOSE_SECONDS", 6 * DEADLINE_SECONDS)  # its LINGER_SECONDS are shorter
    stop = asyncio.Event()

    async def half_closed(connection: ServerConnection) -> None:
        connection.transport.pause_reading()  # so it never sees our answer
        connection.protocol.send_close(4001, "slow")
        connection.send_data()
        await stop.wait()

    async with upstream(half_closed) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            assert await closed_by_peer(client) == (4001, "slow")
        await eventually(lambda: front.holds_nothing)
        stop.set()


@RELAY_ONLY
async def test_a_cancelled_proxy_leaves_no_upstream_connection(way: Way) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front, connect(front.url, proxy=None):
        await eventually(lambda: recorder.connections)
        for task in front.server.server_state.tasks:
            task.cancel()
        await eventually(lambda: recorder.ended)


@RELAY_ONLY
async def test_a_message_of_the_upstream_beyond_the_bound_ends_both_sides_with_a_code_that_is_nobody_elses(
    way: Way,
) -> None:
    ended: list[int | None] = []

    async def shout(connection: ServerConnection) -> None:
        await connection.send("x" * 2000)
        await connection.wait_closed()
        ended.append(connection.close_code)

    async with upstream(shout) as endpoint, gateway(way, endpoint, max_message_bytes=1000) as front:
        async with connect(front.url, proxy=None) as client:
            assert (await closed_by_peer(client))[0] == 1011
        await eventually(lambda: ended)
    assert ended == [1009]


async def test_a_stopping_gateway_ends_both_sides(way: Way) -> None:
    recorder = Recorder()
    async with (
        upstream(recorder) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None) as client,
    ):
        await eventually(lambda: recorder.connections)
        front.server.should_exit = True
        assert (await closed_by_peer(client))[0] == 1012
        await eventually(lambda: recorder.ended)
    assert recorder.ended[0][0] == 1012


# Backpressure

MESSAGES = 64 * MIB // len(MESSAGE)
# What may wait between the two ends: a few messages in the gateway, the rest in the kernel's socket buffers.
IN_FLIGHT_BYTES = 24 * MIB
GATEWAY_BYTES = MIB


async def stands_still(figure: Callable[[], int]) -> int:
    """The value of `figure` once it has stopped changing for half a second."""
    last, since = figure(), time.monotonic()
    while time.monotonic() - since < 0.5:
        await asyncio.sleep(0.01)
        if figure() != last:
            last, since = figure(), time.monotonic()
    return last


async def test_a_client_that_does_not_read_stops_the_upstream_and_loses_nothing(way: Way) -> None:
    sent = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        for _ in range(MESSAGES):
            await connection.send(MESSAGE)
            sent += len(MESSAGE)
        await connection.close()

    async with (
        upstream(flood) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None, max_queue=1) as client,
    ):
        assert await stands_still(lambda: sent) < IN_FLIGHT_BYTES
        assert held_for_client(front) < GATEWAY_BYTES
        async with asyncio.timeout(DEADLINE_SECONDS * 2):
            assert [len(message) async for message in client] == [len(MESSAGE)] * MESSAGES


async def test_an_upstream_that_does_not_read_stops_the_client_and_loses_nothing(way: Way) -> None:
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

    async with upstream(sleepy) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            flooding = asyncio.create_task(flood(client))
            assert await stands_still(lambda: sent) < IN_FLIGHT_BYTES
            assert held_for_upstream(way, front) < GATEWAY_BYTES
            reading.set()
            await asyncio.wait_for(flooding, DEADLINE_SECONDS * 2)
        await eventually(lambda: len(heard) == MESSAGES)
    assert heard == [len(MESSAGE)] * MESSAGES


def held_for_client(front: Gateway) -> int:
    """Bytes that the gateway holds for its clients' sockets."""
    return sum(protocol.transport.get_write_buffer_size() for protocol in front.sockets)


def held_for_upstream(way: Way, front: Gateway) -> int:
    """Bytes that the gateway has read from its clients and not passed on."""
    if way is Way.RELAY:
        return sum(protocol.queue.qsize() * len(MESSAGE) for protocol in front.sockets)
    return sum(open_tunnel._upstream.get_write_buffer_size() for open_tunnel in tunnel.OPEN)


async def test_a_side_that_never_reads_is_dropped_after_a_while(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a stopped worker would hold its clients' connections for ever, the gone ones' too."""
    monkeypatch.setattr(relay, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(tunnel, "STALL_SECONDS", 0.3)
    stop, ended = asyncio.Event(), asyncio.Event()

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await stop.wait()
        connection.transport.resume_reading()
        await closed_by_peer(connection)
        ended.set()

    async with upstream(deaf) as endpoint, gateway(way, endpoint) as front, connect(front.url, proxy=None) as client:
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(DEADLINE_SECONDS * 2):
                while True:
                    await client.send(MESSAGE)
        assert client.close_code == (1013 if way is Way.RELAY else 1006)
        await eventually(lambda: front.holds_nothing)
        stop.set()
        await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)
