"""`FrameWalk`: where messages end in a stream of frames, however it is cut."""

import asyncio
import sys
from itertools import accumulate, pairwise
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from distributed_websocket import tunnel
from distributed_websocket.tunnel import FrameWalk

LENGTHS = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 65_535, 65_536, 70_000]) | st.integers(0, 300)
CONTROL = st.tuples(st.sampled_from([Opcode.PING, Opcode.PONG]), st.integers(0, 125))


@st.composite
def messages(draw: st.DrawFn) -> list[Frame]:
    """A message in one or more fragments, with control frames between them."""
    first = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
    fragments = draw(st.integers(1, 4))
    frames = []
    for number in range(fragments):
        frames += [Frame(opcode, bytes(length)) for opcode, length in draw(st.lists(CONTROL, max_size=2))]
        opcode = Opcode.CONT if number else first
        frames.append(Frame(opcode, bytes(draw(LENGTHS)), fin=number == fragments - 1))
    return frames


@st.composite
def pieces(draw: st.DrawFn, frames: list[bytes]) -> list[bytes]:
    """Many are cut inside of headers, and some are empty."""
    data = b"".join(frames)
    starts = [0, *accumulate(map(len, frames))]
    in_header = st.tuples(st.sampled_from(starts), st.integers(0, 14)).map(sum)
    cuts = draw(st.lists(in_header | st.integers(0, len(data)), max_size=12))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@settings(deadline=None)
@given(st.data())
def test_the_places_between_messages_are_found_in_whatever_pieces_they_come(data: st.DataObject) -> None:
    frames = [frame for message in data.draw(st.lists(messages(), min_size=1, max_size=4)) for frame in message]
    serialized = [frame.serialize(mask=data.draw(st.booleans())) for frame in frames]
    in_message, places = False, {0}
    for frame, end in zip(frames, accumulate(map(len, serialized)), strict=True):
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            in_message = not frame.fin
        if not in_message:
            places.add(end)
    walk, position = FrameWalk(), 0
    for piece in data.draw(pieces(serialized)):
        inside = [place - position for place in places if position < place <= position + len(piece)]
        assert walk.feed(piece) == max(inside, default=0)
        position += len(piece)
        assert walk.between_messages == (position in places)
    assert not walk.closing


@settings(deadline=None)
@given(messages())
def test_a_close_frame_is_seen_with_its_header(message: list[Frame]) -> None:
    walk = FrameWalk()
    close = Frame(Opcode.CLOSE, b"").serialize(mask=True)
    walk.feed(b"".join(frame.serialize(mask=True) for frame in message) + close[:1])
    assert not walk.closing
    walk.feed(close[1:2])
    assert walk.closing


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("mask", [True, False])
def test_a_frame_that_comes_byte_by_byte_ends_with_its_last_byte(length: int, mask: bool) -> None:
    walk = FrameWalk()
    *frame, last = Frame(Opcode.BINARY, bytes(length)).serialize(mask=mask)
    for byte in frame:
        assert walk.feed(bytes([byte])) == 0
        assert not walk.between_messages
    assert walk.feed(bytes([last])) == 1
    assert walk.between_messages


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_frame_of_a_length_that_never_comes_never_ends(length: int) -> None:
    walk = FrameWalk()
    assert walk.feed(b"\x82\xff" + length.to_bytes(8, "big") + bytes(1000)) == 0
    assert not walk.between_messages


def test_where_a_hang_up_cannot_be_asked_for_nobody_has_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """POLLRDHUP is Linux's. Elsewhere an end is noticed when it is read."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not tunnel._has_hung_up(Mock(spec=asyncio.Transport))
