"""The moment at which two connections become one tunnel: no byte of either side is lost, and no connection is left."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess

import pytest
from websockets.asyncio.client import connect
from websockets.frames import Opcode
from websockets.utils import accept_key

from distributed_websocket import server, upgrade
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.proxying import MIB, Recorder, Way, bytes_client, closed_by_peer, echo, gateway, tcp_upstream, upstream

ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
EARLY = b"\x81\x05early"


def answer_to(request: bytes) -> bytes:
    (key,) = (
        line.partition(b":")[2] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    )
    return ANSWER % accept_key(key.strip().decode()).encode()


# What the upstream says at once


@pytest.mark.parametrize("pieces", ["one piece", "a piece for each byte", "the answer, then the rest"])
async def test_what_comes_right_behind_the_upstreams_answer_reaches_the_client(way: Way, pieces: str) -> None:
    async def speak(request: bytes, writer: asyncio.StreamWriter) -> None:
        answer = answer_to(request)
        data = answer + EARLY + b"\x82\x7e\x01\x00" + bytes(256)
        cuts = {
            "one piece": [data],
            "a piece for each byte": [bytes([byte]) for byte in data],
            "the answer, then the rest": [answer, data[len(answer) :]],
        }[pieces]
        for cut in cuts:
            writer.write(cut)
            await writer.drain()

    async with (
        tcp_upstream(speak) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == "early"
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == bytes(256)


async def test_a_flood_behind_the_upstreams_answer_arrives_whole(way: Way) -> None:
    frame = b"\x82\x7f" + (MIB).to_bytes(8, "big") + bytes(MIB)

    async def flood(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_to(request) + frame * 4)
        await writer.drain()

    async with (
        tcp_upstream(flood) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None, max_size=None, max_queue=1) as client,
    ):
        for _ in range(4):
            assert len(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS)) == MIB


async def test_an_upstream_that_answers_and_leaves_ends_the_client(way: Way) -> None:
    async def leave(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_to(request) + EARLY)
        writer.close()

    async with tcp_upstream(leave) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        assert bytes((await client.hear()).data) == b"early"
        assert await client.close_code() == (1012 if way is Way.RELAY else 1006)


# What the client says too early


@pytest.mark.parametrize("accept_first", [False, True], ids=["not accepted before", "accepted before"])
@pytest.mark.parametrize("length", [5, 200_000])
async def test_what_a_client_says_before_the_answer_to_its_handshake_is_heard(
    way: Way, length: int, accept_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It should have waited (RFC 6455 §4.1)."""
    answered_too_early = way is Way.RELAY and not accept_first  # by uvicorn 0.54: the pong comes before the handshake
    monkeypatch.setattr(server, "MAX_EARLY_BYTES", 1000)
    recorder, go_on = Recorder(), asyncio.Event()
    async with upstream(recorder) as endpoint:

        async def wait(request: bytes, writer: asyncio.StreamWriter) -> None:
            """Like the upstream, but it answers when told to."""
            host, port = endpoint.split("/")[2].split(":")
            behind_reader, behind = await asyncio.open_connection(host, int(port))
            await go_on.wait()
            behind.write(request)

            async def back() -> None:
                while data := await behind_reader.read(MIB):
                    writer.write(data)

            returning = asyncio.create_task(back())
            while data := await readers[0].read(MIB):
                behind.write(data)
            behind.close()
            await asyncio.wait([returning])

        readers: list[asyncio.StreamReader] = []
        async with (
            tcp_upstream(wait, readers) as slow,
            gateway(way, slow, accept_first=accept_first) as front,
            bytes_client(front, wait=False) as client,
        ):
            await eventually(lambda: readers)
            if not answered_too_early:
                client.say(Opcode.PING, b"early")
            client.say(Opcode.BINARY, bytes(length))
            client.say(Opcode.TEXT, b"second")
            if length > server.MAX_EARLY_BYTES and way is Way.SPLICE and not accept_first:
                (protocol,) = front.sockets
                await eventually(lambda: protocol.read_paused)
            go_on.set()
            await client.hear_head()
            if not answered_too_early:
                pong = await client.hear()
                assert (pong.opcode, bytes(pong.data)) == (Opcode.PONG, b"early")
            await eventually(lambda: recorder.heard == [bytes(length), "second"])


# Ends in between


@pytest.mark.parametrize("way", [Way.SPLICE], indirect=True)
async def test_an_upstream_that_was_lost_before_the_hand_over_is_a_502(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rare: there are a few ticks between its answer and the hand-over."""

    async def lost(*args: object) -> upgrade.Upgrade:
        upgraded = await upgrade.open_upgrade(*args)  # type: ignore[arg-type]
        upgraded.transport.abort()
        return upgraded

    monkeypatch.setattr("distributed_websocket.proxy.open_upgrade", lost)
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        assert client.head.startswith("HTTP/1.1 502 ")


@pytest.mark.parametrize("way", [Way.SPLICE], indirect=True)
async def test_a_client_that_is_lost_as_its_upstream_answers_leaves_no_connection_there(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()

    async def lose_client(*args: object) -> upgrade.Upgrade:
        upgraded = await upgrade.open_upgrade(*args)  # type: ignore[arg-type]
        (protocol,) = front.sockets
        protocol.transport.abort()
        return upgraded

    monkeypatch.setattr("distributed_websocket.proxy.open_upgrade", lose_client)
    async with (
        upstream(recorder) as endpoint,
        gateway(way, endpoint) as front,
        bytes_client(front, wait=False) as client,
    ):
        assert await client.reader.read() == b""
        await eventually(lambda: recorder.ended and front.holds_nothing)


async def test_a_gateway_that_stops_during_a_handshake_leaves_no_upstream_connection(way: Way) -> None:
    reached, ended = asyncio.Event(), asyncio.Event()

    async def silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        reached.set()
        with contextlib.suppress(ConnectionError):
            await readers[0].read()
        ended.set()

    readers: list[asyncio.StreamReader] = []
    async with tcp_upstream(silent, readers) as endpoint:
        async with gateway(way, endpoint) as front, bytes_client(front, wait=False):
            await asyncio.wait_for(reached.wait(), DEADLINE_SECONDS)
        await asyncio.wait_for(ended.wait(), DEADLINE_SECONDS)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    files = str(folder / "certificate.pem"), str(folder / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


def server_side(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_an_upstream_is_reached_over_tls_when_its_certificate_is_trusted(
    way: Way, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    upgrade._tls.cache_clear()
    async with upstream(echo, tls=server_side(certificate)) as endpoint, gateway(way, endpoint) as front:
        async with connect(front.url, proxy=None) as client:
            for message in ("hello", b"x" * MIB):
                await client.send(message)
                assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == message
        await eventually(lambda: front.holds_nothing)


async def test_a_flood_behind_the_answer_arrives_whole_over_tls_too(
    way: Way, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pausing does not hold back what is decrypted already."""
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    upgrade._tls.cache_clear()

    async def flood(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_to(request))
        for number in range(2000):
            writer.write(b"\x81\x04%04d" % number)
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            await readers[0].read(1)  # it stays until the client closes: one that leaves before the hand-over is a 502

    readers: list[asyncio.StreamReader] = []
    async with (
        tcp_upstream(flood, readers, tls=server_side(certificate)) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None) as client,
    ):
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert [int(await client.recv()) for _ in range(2000)] == list(range(2000))


async def test_an_upstream_whose_certificate_is_not_trusted_is_a_502(
    way: Way, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    upgrade._tls.cache_clear()
    async with (
        upstream(echo, tls=server_side(certificate)) as endpoint,
        gateway(way, endpoint) as front,
        bytes_client(front) as client,
    ):
        assert client.head.startswith("HTTP/1.1 502 ")


@pytest.mark.parametrize("first", ["client closes", "client vanishes", "upstream closes", "upstream vanishes"])
async def test_a_client_over_tls_is_proxied_and_either_sides_end_is_the_others(
    way: Way, first: str, certificate: tuple[str, str]
) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint, certificate=certificate) as front:
        trusting = ssl.create_default_context(cafile=certificate[0])
        async with connect(front.url.replace("ws://", "wss://"), proxy=None, ssl=trusting) as client:
            await client.send("hello")
            await eventually(lambda: recorder.heard == ["hello"])
            behind = recorder.connections[0]
            if first == "client closes":
                await client.close(4321, "bye")
            elif first == "client vanishes":
                client.transport.abort()
            elif first == "upstream closes":
                await behind.close(4321, "bye")
            else:
                behind.transport.abort()
            code, _ = await closed_by_peer(client)
            await eventually(lambda: recorder.ended)
        await eventually(lambda: front.holds_nothing)
    lost_upstream = 1012 if way is Way.RELAY else 1006
    assert code == {"client vanishes": 1006, "upstream vanishes": lost_upstream}.get(first, 4321)
    if "vanishes" not in first:
        assert recorder.ended == [(4321, "bye")]


async def test_a_request_header_may_not_hold_a_line_break(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """It would be two headers for the upstream."""
    recorder = Recorder()
    async with (
        upstream(recorder) as endpoint,
        gateway(way, endpoint, headers={"X-Name": "a\r\nX-Admin: yes"}) as front,
        bytes_client(front) as client,
    ):
        assert client.head.startswith("HTTP/1.1 50")
    assert recorder.connections == []
