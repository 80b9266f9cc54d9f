"""Nothing of the WebSocket protocol (RFC 6455) gets lost, added or let off on the way through the proxy."""

import asyncio
import struct

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.frames import Opcode

from tests.deadline import DEADLINE_SECONDS, eventually
from tests.proxying import (
    MIB,
    Recorder,
    Way,
    bytes_client,
    closed_by_peer,
    echo,
    gateway,
    masked,
    upstream,
)

SPLICE_ONLY = pytest.mark.parametrize("way", [Way.SPLICE], indirect=True)

VALID_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4499, 4500, 4999]
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return masked(Opcode.CLOSE, struct.pack("!H", code) + reason)


# Fragments and control frames


async def test_control_frames_between_fragments_are_answered_and_the_message_stays_whole(way: Way) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        client.say(Opcode.TEXT, b"one ", fin=False)
        client.say(Opcode.PING, b"first")
        client.say(Opcode.CONT, "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf ".encode()[:3], fin=False)
        client.say(Opcode.PONG, b"nobody asked")
        client.say(Opcode.CONT, "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf ".encode()[3:], fin=False)
        client.say(Opcode.PING, b"second")
        client.say(Opcode.CONT, b"", fin=False)
        client.say(Opcode.CONT, b"three")
        heard = [await client.hear() for _ in range(3)]
    assert [(frame.opcode, bytes(frame.data)) for frame in heard] == [
        (Opcode.PONG, b"first"),
        (Opcode.PONG, b"second"),
        (Opcode.TEXT, "one zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf three".encode()),
    ]


async def test_fragments_of_the_upstream_stay_fragments_where_bytes_pass_and_become_one_message_else(way: Way) -> None:
    async def fragments(connection: ServerConnection) -> None:
        await connection.send(["one ", "two ", "three"])
        await connection.wait_closed()

    async with upstream(fragments) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        heard = [await client.hear()]
        while not heard[-1].fin:
            heard.append(await client.hear())
    whole = [(Opcode.TEXT, b"one two three")]
    parts = [(Opcode.TEXT, b"one "), (Opcode.CONT, b"two "), (Opcode.CONT, b"three"), (Opcode.CONT, b"")]
    assert [(frame.opcode, bytes(frame.data)) for frame in heard] == (whole if way is Way.RELAY else parts)


async def test_frames_in_pieces_of_one_byte_arrive(way: Way) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        for byte in masked(Opcode.BINARY, b"x" * 200) + masked(Opcode.TEXT, b"hello"):
            client.writer.write(bytes([byte]))
            await client.writer.drain()
        assert [bytes((await client.hear()).data) for _ in range(2)] == [b"x" * 200, b"hello"]


async def test_many_frames_in_one_piece_arrive_in_order(way: Way) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        client.writer.write(b"".join(masked(Opcode.TEXT, b"%d" % number) for number in range(300)))
        assert [int((await client.hear()).data) for _ in range(300)] == list(range(300))


# Pings


async def test_a_ping_of_the_client_is_answered(way: Way) -> None:
    async with (
        upstream(echo) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None, ping_interval=None) as client,
    ):
        await asyncio.wait_for(await client.ping(b"payload"), DEADLINE_SECONDS)


@SPLICE_ONLY
async def test_pings_and_pongs_pass_from_end_to_end_where_bytes_do(way: Way) -> None:
    latencies: list[float] = []

    async def ping(connection: ServerConnection) -> None:
        latencies.append(await (await connection.ping(b"from the upstream")))

    async with upstream(ping) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        frame = await client.hear()
        assert (frame.opcode, frame.data) == (Opcode.PING, b"from the upstream")
        assert latencies == []
        client.say(Opcode.PONG, b"from the upstream")
        assert (await client.hear()).opcode is Opcode.CLOSE  # the handler has returned
        assert len(latencies) == 1


# What breaks the protocol

TEXT_WITHOUT_UTF8 = [
    pytest.param([b"\xff\xfe"], id="bytes that never occur"),
    pytest.param([b"\xc0\xaf"], id="overlong"),
    pytest.param([b"\xed\xa0\x80"], id="surrogate"),
    pytest.param([b"\xf4\x90\x80\x80"], id="beyond U+10FFFF"),
    pytest.param([b"caf\xc3"], id="cut off at the end of the message"),
    pytest.param([b"caf\xc3", b"x"], id="cut off inside"),
]


@pytest.mark.parametrize("fragments", TEXT_WITHOUT_UTF8)
async def test_text_that_is_no_utf_8_is_refused_with_1007(way: Way, fragments: list[bytes]) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        for number, fragment in enumerate(fragments, 1):
            client.say(Opcode.TEXT if number == 1 else Opcode.CONT, fragment, fin=number == len(fragments))
        assert await client.close_code() == 1007


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(masked(Opcode.TEXT, b"x", reserved=4), id="first reserved bit"),
        pytest.param(masked(Opcode.BINARY, b"x", reserved=2), id="second reserved bit"),
        pytest.param(masked(Opcode.PING, b"x", reserved=1), id="third reserved bit"),
        pytest.param(masked(0x3), id="reserved opcode"),
        pytest.param(masked(0xB), id="reserved control opcode"),
        pytest.param(b"\x81\x05hello", id="not masked"),
        pytest.param(masked(Opcode.PING, bytes(126)), id="a ping of 126 bytes"),
        pytest.param(masked(Opcode.PING, b"x", fin=False), id="a fragment of a ping"),
        pytest.param(masked(Opcode.CONT, b"x"), id="a continuation of nothing"),
        pytest.param(masked(Opcode.TEXT, b"x", fin=False) + masked(Opcode.TEXT, b"y"), id="a message in a message"),
        pytest.param(masked(Opcode.CLOSE, b"\x03"), id="half a close code"),
    ],
)
async def test_what_breaks_the_protocol_is_refused_with_1002(way: Way, frames: bytes) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        client.writer.write(frames)
        assert await client.close_code() == 1002


# Close codes


async def test_every_close_code_of_the_client_reaches_the_upstream(way: Way) -> None:
    recorder = Recorder()
    async with upstream(recorder) as endpoint, gateway(way, endpoint) as front:
        for code in VALID_CODES:
            async with bytes_client(front) as client:
                client.writer.write(close_frame(code, b"because"))
                assert await client.close_code() == code
        await eventually(lambda: len(recorder.ended) == len(VALID_CODES))
    assert sorted(recorder.ended) == [(code, "because") for code in VALID_CODES]


async def test_every_close_code_of_the_upstream_reaches_the_client(way: Way) -> None:
    codes = iter(VALID_CODES)

    async def close(connection: ServerConnection) -> None:
        await connection.close(next(codes), "because")

    async with upstream(close) as endpoint, gateway(way, endpoint) as front:
        for code in VALID_CODES:
            async with connect(front.url, proxy=None) as client:
                assert await closed_by_peer(client) == (code, "because")


async def test_a_close_code_that_may_not_be_sent_is_refused_with_1002(way: Way) -> None:
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front:
        for code in INVALID_CODES:
            async with bytes_client(front) as client:
                client.writer.write(close_frame(code))
                assert await client.close_code() == 1002, code


async def test_a_close_reason_that_is_no_utf_8_is_refused(way: Way) -> None:
    """With 1002 or 1007: servers differ, and RFC 6455 §8.1 leaves it to them."""
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        client.writer.write(close_frame(1000, b"\xff"))
        assert await client.close_code() in (1002, 1007)


# Sizes


@pytest.mark.parametrize("message", ["x" * 16 * MIB, b"y" * 16 * MIB], ids=["text", "binary"])
async def test_messages_of_16_mib_pass_both_ways(way: Way, message: str | bytes) -> None:
    async with (
        upstream(echo) as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None, compression=None, max_size=16 * MIB) as client,
    ):
        await client.send(message)
        heard = await asyncio.wait_for(client.recv(), DEADLINE_SECONDS)
        assert heard == message


async def test_a_message_beyond_the_servers_limit_is_refused_with_1009(way: Way) -> None:
    """As soon as its length is known."""
    async with upstream(echo) as endpoint, gateway(way, endpoint) as front, bytes_client(front) as client:
        client.writer.write(b"\x82\xff" + (16 * MIB + 1).to_bytes(8, "big") + bytes(4))
        assert await client.close_code() == 1009


# Extensions


async def test_client_and_upstream_agree_on_compression_where_bytes_pass_and_go_without_it_else(way: Way) -> None:
    async with (
        upstream(echo, compression="deflate") as endpoint,
        gateway(way, endpoint) as front,
        connect(front.url, proxy=None) as client,
    ):
        assert [extension.name for extension in client.protocol.extensions] == (
            ["permessage-deflate"] if way is Way.SPLICE else []
        )
        for message in ("hello " * 1000, b"\x00\xff" * 5000, ""):
            await client.send(message)
            assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == message


@SPLICE_ONLY
async def test_compressed_frames_are_the_upstreams_own(way: Way) -> None:
    async def speak(connection: ServerConnection) -> None:
        await connection.send("hello " * 100)

    async with (
        upstream(speak, compression="deflate") as endpoint,
        gateway(way, endpoint) as front,
        bytes_client(front, extensions="permessage-deflate") as client,
    ):
        frame = await client.hear()
    assert frame.rsv1
    assert len(frame.data) < 100
