"""Tunnels that end: by a restart of the gateway, by halves, by a side that stalls."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.frames import Opcode

from distributed_websocket import tunnel
from distributed_websocket.codes import CloseCode
from distributed_websocket.tunnel import Tunnel
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.proxying import (
    MESSAGE,
    MIB,
    BytesClient,
    Gateway,
    Recorder,
    Way,
    bytes_client,
    closed_by_peer,
    gateway,
    masked,
    tcp_upstream,
    upstream,
)

pytestmark = pytest.mark.parametrize("way", [Way.SPLICE], indirect=True)

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
DRAINED = (CloseCode.DRAIN, CloseCode.DRAIN.reason)


@dataclass
class Stage:
    """One tunnel, and both of its ends."""

    front: Gateway
    client: BytesClient
    recorder: Recorder

    @property
    def tunnel(self) -> Tunnel:
        (only,) = tunnel.OPEN
        return only

    async def ends(self) -> None:
        self.client.writer.close()
        await eventually(lambda: self.recorder.ended and self.front.holds_nothing and not tunnel.OPEN)


@pytest.fixture
async def stage(way: Way) -> AsyncIterator[Stage]:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        await eventually(lambda: recorder.connections)
        yield Stage(front, client, recorder)


@pytest.fixture
def short_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "CLOSE_SECONDS", 0.2)


# Leaving


async def test_leaving_ends_both_sides_with_the_code(stage: Stage) -> None:
    stage.tunnel.leave(CloseCode.DRAIN)
    assert await stage.client.close_code() == 1012
    await stage.ends()
    assert stage.recorder.ended == [DRAINED]


async def test_leaving_twice_is_leaving_once(stage: Stage) -> None:
    leaving = stage.tunnel
    leaving.leave(CloseCode.DRAIN)
    leaving.leave(CloseCode.OVERLOAD)
    assert await stage.client.close_code() == 1012
    await stage.ends()
    leaving.leave(CloseCode.OVERLOAD)
    assert stage.recorder.ended == [DRAINED]


async def test_leaving_waits_for_the_end_of_the_frame_that_the_client_is_in(stage: Stage) -> None:
    first, second = masked(Opcode.TEXT, b"first"), masked(Opcode.TEXT, b"second")
    stage.client.writer.write(first[:7])
    leaving = stage.tunnel
    await eventually(lambda: not leaving._frames.between_messages)
    leaving.leave(CloseCode.DRAIN)
    stage.client.writer.write(first[7:9])
    await eventually(lambda: leaving._frames._skip == len(first) - 9)
    assert not stage.recorder.ended
    stage.client.writer.write(first[9:] + second[:5])
    assert await stage.client.close_code() == 1012
    stage.client.writer.write(second[5:])
    await stage.ends()
    assert stage.recorder.heard == ["first"]
    assert stage.recorder.ended == [DRAINED]


async def test_leaving_waits_for_the_last_fragment_of_the_clients_message(stage: Stage) -> None:
    """A close frame before it would be legal, and yet most servers answer with 1002: "do not come back"."""
    stage.client.say(Opcode.TEXT, b"one ", fin=False)
    stage.client.say(Opcode.PING, b"x")
    assert (await stage.client.hear()).opcode is Opcode.PONG
    stage.tunnel.leave(CloseCode.DRAIN)
    stage.client.say(Opcode.PING, b"y")
    assert (await stage.client.hear()).opcode is Opcode.PONG
    stage.client.say(Opcode.CONT, b"two")
    assert await stage.client.close_code() == 1012
    await stage.ends()
    assert stage.recorder.heard == ["one two"]
    assert stage.recorder.ended == [DRAINED]


@pytest.mark.usefixtures("short_close")
async def test_a_client_that_never_ends_its_frame_is_dropped(stage: Stage) -> None:
    stage.client.writer.write(masked(Opcode.TEXT, b"never whole")[:7])
    leaving = stage.tunnel
    await eventually(lambda: not leaving._frames.between_messages)
    leaving.leave(CloseCode.DRAIN)
    assert await stage.client.close_code() == 1006
    await stage.ends()


async def test_a_client_that_closes_while_we_leave_has_the_last_word(stage: Stage) -> None:
    close = masked(Opcode.CLOSE, (4321).to_bytes(2, "big"))
    stage.client.writer.write(close[:3])
    leaving = stage.tunnel
    await eventually(lambda: leaving._frames.closing)
    leaving.leave(CloseCode.DRAIN)
    stage.client.writer.write(close[3:])
    assert await stage.client.close_code() == 4321
    await stage.ends()
    assert stage.recorder.ended == [(4321, "")]


@pytest.mark.usefixtures("short_close")
async def test_an_upstream_that_does_not_answer_our_close_frame_is_dropped(stage: Stage) -> None:
    stage.recorder.connections[0].transport.pause_reading()
    stage.tunnel.leave(CloseCode.DRAIN)
    assert await stage.client.close_code() == 1006
    stage.recorder.connections[0].transport.resume_reading()
    await stage.ends()


# Draining


async def test_a_drain_spreads_the_ends_over_its_time(way: Way) -> None:
    recorder = Recorder()
    ends: list[float] = []

    async def wait(url: str) -> None:
        async with connect(url, proxy=None) as client:
            assert await closed_by_peer(client) == DRAINED
            ends.append(time.monotonic())

    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front:
        clients = [asyncio.create_task(wait(front.url)) for _ in range(5)]
        await eventually(lambda: len(tunnel.OPEN) == 5)
        started = time.monotonic()
        await tunnel.drain(0.5)
        await asyncio.wait_for(asyncio.gather(*clients), DEADLINE_SECONDS)
        assert not tunnel.OPEN
    late = [end - started - 0.1 * number for number, end in enumerate(sorted(ends), 1)]
    assert min(late) > -0.01, late  # uvloop counts in milliseconds
    assert min(late) < 0.4, late  # a busy machine may be late for some; who waits too long is late for all


async def test_a_drain_of_no_time_ends_all_at_once(way: Way) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(front.url, proxy=None)) for _ in range(3)]
        await eventually(lambda: len(tunnel.OPEN) == 3)
        await tunnel.drain(0)
        for client in clients:
            assert await closed_by_peer(client) == DRAINED


async def test_a_drain_of_nothing_is_over_at_once(way: Way) -> None:
    await asyncio.wait_for(tunnel.drain(6 * DEADLINE_SECONDS), DEADLINE_SECONDS)


# Halves


@contextlib.asynccontextmanager
async def last_words(length: int) -> AsyncIterator[str]:
    """An upstream that says so many bytes and ends, while it still listens."""
    readers: list[asyncio.StreamReader] = []

    async def speak(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHED + bytes(length))
        writer.write_eof()
        await readers[0].read()

    async with tcp_upstream(speak, readers) as endpoint:
        yield endpoint


async def test_a_client_that_half_closes_still_hears_the_upstreams_last_words(way: Way) -> None:
    async with upstream(Recorder()) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        client.say(Opcode.CLOSE, (4321).to_bytes(2, "big"))
        client.writer.write_eof()
        assert await client.close_code() == 4321
        assert await client.reader.read() == b""
        await eventually(lambda: front.holds_nothing)


async def test_a_slow_client_that_has_said_goodbye_still_hears_all_that_was_on_its_way(way: Way) -> None:
    sent = MIB // 4

    async with (
        last_words(sent) as endpoint,
        gateway(way, endpoint, send_buffer_bytes=2**15) as front,
        bytes_client(front, receive_buffer_bytes=2**12) as client,
    ):
        client.say(Opcode.CLOSE)
        assert len(await asyncio.wait_for(client.reader.read(), DEADLINE_SECONDS)) == sent


@pytest.mark.usefixtures("short_close")
@pytest.mark.parametrize("half", ["client", "upstream"])
async def test_a_half_closed_tunnel_ends_though_the_other_half_says_nothing(way: Way, half: str) -> None:
    stop = asyncio.Event()

    async def silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHED)
        if half == "upstream":
            writer.write_eof()
        await stop.wait()

    async with tcp_upstream(silent) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        if half == "client":
            client.writer.write_eof()
        assert await asyncio.wait_for(client.reader.read(), DEADLINE_SECONDS) == b""
        await eventually(lambda: front.holds_nothing)
        stop.set()


async def test_a_slow_client_that_talks_on_after_the_upstreams_end_hears_its_last_words(way: Way) -> None:
    """Closing its connection at once would reset it, as there is always something unread, and drop what is unsent."""
    sent = MIB // 4

    async with (
        last_words(sent) as endpoint,
        gateway(way, endpoint, send_buffer_bytes=2**15) as front,
        bytes_client(front, receive_buffer_bytes=2**12) as client,
    ):

        async def talk() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    client.say(Opcode.TEXT, b"and another thing")
                    await client.writer.drain()
                    await asyncio.sleep(0.001)

        talking = asyncio.create_task(talk())
        heard = await asyncio.wait_for(client.reader.read(), DEADLINE_SECONDS)
        talking.cancel()
        await asyncio.wait([talking])
    assert len(heard) == sent


# Stalling


async def test_a_slow_client_that_takes_something_now_and_then_is_not_dropped(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "STALL_SECONDS", 1.0)
    sent = 4 * MIB

    async def flood(connection: ServerConnection) -> None:
        for _ in range(sent // len(MESSAGE)):
            await connection.send(MESSAGE)
        await connection.close()

    async with upstream(flood) as endpoint, gateway(way, endpoint, send_buffer_bytes=2**15) as front:
        async with bytes_client(front, receive_buffer_bytes=2**12) as client:
            heard, started = 0, time.monotonic()
            while time.monotonic() - started < 3:  # too slow to free the gateway's buffer within STALL_SECONDS
                heard += len(await asyncio.wait_for(client.reader.read(4 * 1024), DEADLINE_SECONDS))
                await asyncio.sleep(0.1)
            while data := await asyncio.wait_for(client.reader.read(MIB), DEADLINE_SECONDS):
                heard += len(data)
        assert heard > sent
        await eventually(lambda: front.holds_nothing)


async def test_a_client_that_never_reads_is_dropped_with_its_upstream_connection(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "STALL_SECONDS", 0.2)
    ended = asyncio.Event()

    async def flood(connection: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            while True:
                await connection.send(MESSAGE)
        ended.set()

    async with upstream(flood) as endpoint, gateway(way, endpoint) as front, bytes_client(front):
        await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)
        await eventually(lambda: front.holds_nothing)
