"""`FrameWalk`: where frames end in a stream of bytes, however it is cut."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from distributed_websocket.tunnel import FrameWalk

LENGTHS = st.sampled_from([0, 1, 2, 124, 125, 126, 127, 65_535, 65_536, 70_000]) | st.integers(0, 300)


@st.composite
def frames(draw: st.DrawFn, opcodes: Sequence[Opcode] = tuple(Opcode)) -> bytes:
    opcode = draw(st.sampled_from(opcodes))
    length = draw(st.integers(0, 125) if opcode & 0x8 else LENGTHS)
    data: bytes = Frame(opcode, bytes(length), fin=opcode & 0x8 != 0 or draw(st.booleans())).serialize(
        mask=draw(st.booleans())
    )
    return data


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Some of them empty, and cuts near each other, so that headers are cut too."""
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=8))
    cuts += [cut + offset for cut in cuts for offset in draw(st.lists(st.integers(1, 9), max_size=3))]
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.data())
def test_the_ends_of_frames_are_found_in_whatever_pieces_they_come(data: st.DataObject) -> None:
    stream = data.draw(st.lists(frames(), min_size=1, max_size=6))
    ends = [0, *accumulate(map(len, stream))]
    walk, position = FrameWalk(), 0
    for piece in data.draw(pieces(b"".join(stream))):
        inside = [end - position for end in ends if position < end <= position + len(piece)]
        assert walk.feed(piece) == max(inside, default=0)
        position += len(piece)
        assert walk.between_frames == (position in ends)


@given(frames([Opcode.TEXT, Opcode.BINARY, Opcode.PING]), frames([Opcode.CLOSE]))
def test_a_close_frame_is_seen_with_its_header(message: bytes, close: bytes) -> None:
    walk = FrameWalk()
    walk.feed(message + close[:1])
    assert not walk.closing
    walk.feed(close[1:2])
    assert walk.closing


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_frame_of_a_length_that_never_comes_never_ends(length: int) -> None:
    walk = FrameWalk()
    assert walk.feed(b"\x82\xff" + length.to_bytes(8, "big") + bytes(1000)) == 0
    assert not walk.between_frames
