"""A way to a server that can be blocked: nothing passes meanwhile, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtests.chaos.detour import Detour, open_detour
from tests.deadline import eventually


@pytest.fixture
async def detour() -> AsyncIterator[Detour]:
    """To a server that answers each line with itself."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, open_detour(server.sockets[0].getsockname()[1]) as detour:
        yield detour


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes, seconds: float = 5) -> bytes:
    writer.write(line)
    return await asyncio.wait_for(reader.readline(), seconds)


async def test_bytes_are_held_back_while_it_is_blocked_and_come_afterwards(detour: Detour) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", detour.port)
    assert await ask(reader, writer, b"one\n") == b"one\n"
    detour.block()
    with pytest.raises(TimeoutError):
        await ask(reader, writer, b"two\n", seconds=0.2)
    detour.unblock()
    assert await ask(reader, writer, b"three\n") == b"two\n"
    assert await asyncio.wait_for(reader.readline(), 5) == b"three\n"
    writer.close()


async def test_new_connections_are_accepted_while_it_is_blocked_and_say_nothing(detour: Detour) -> None:
    detour.block()
    reader, writer = await asyncio.open_connection("127.0.0.1", detour.port)
    with pytest.raises(TimeoutError):
        await ask(reader, writer, b"one\n", seconds=0.2)
    assert detour.exits == set()
    detour.unblock()
    assert await asyncio.wait_for(reader.readline(), 5) == b"one\n"
    writer.close()


async def test_an_end_passes_too_and_nothing_is_kept_of_it(detour: Detour) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", detour.port)
    assert await ask(reader, writer, b"one\n") == b"one\n"
    assert len(detour.exits) == 1
    writer.close()
    await eventually(lambda: not detour.exits)
