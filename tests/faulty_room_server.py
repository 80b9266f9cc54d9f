"""A WebSocket server with one room and, where asked for, one fault: `faulty_room_server.py PORT [FAULT]`.

Everybody hears everything. The faults happen to the first connection alone: of the messages 0, 1, 2 ... it `drops`,
`repeats` or `swaps` with the one behind it every tenth, or is sent away at the twentieth.
"""

import asyncio
import base64
import hashlib
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
FAULT = sys.argv[2] if len(sys.argv) > 2 else ""

members: list[asyncio.StreamWriter] = []
heard = 0
held_back = b""


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    _, size = await reader.readexactly(2)
    size &= 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    mask = await reader.readexactly(4)
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(await reader.readexactly(size)))


def frame(payload: bytes) -> bytes:
    size = len(payload)
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + payload


def for_the_first(message: bytes, number: int) -> bytes:
    global held_back
    if FAULT == "sends away" and number == 20:
        return b"\x88\x05\x0f\xa1bye"  # 4001
    if number % 10 == 0 and FAULT == "drops":
        return b""
    if number % 10 == 0 and FAULT == "repeats":
        return message * 2
    if number % 10 == 0 and FAULT == "swaps":
        held_back = message
        return b""
    late, held_back = held_back, b""
    return message + late


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global heard
    try:
        request = await reader.readuntil(b"\r\n\r\n")
        if FAULT == "refuses":
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        # The first frames come in the same segment.
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + frame(b"hello") + frame(b"who?"))
        assert await read_frame(reader) == b"somebody of room 000"
        members.append(writer)
        writer.write(frame(b"welcome, somebody") + frame(b"ping?"))
        assert await read_frame(reader) == b"pong!"
        while True:
            message = frame(await read_frame(reader))
            for member in members:
                member.write(for_the_first(message, heard) if member is members[0] else message)
            heard += 1
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
