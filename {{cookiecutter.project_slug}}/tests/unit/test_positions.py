"""Positions in a log compare as numbers, and what is none is refused with what was received."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_websocket.positions import parse_position


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_position_is_milliseconds_and_a_sequence_number(ms: int, seq: int) -> None:
    assert parse_position(f"{ms}-{seq}") == (ms, seq)


def test_positions_order_by_number_and_not_by_text() -> None:
    assert parse_position("9-10") > parse_position("9-9")
    assert parse_position("10-0") > parse_position("9-99")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "-",
        "5-",
        "-5",
        "a-1",
        "1-a",
        "1--2",
        "1-2-3",
        " 1-2",
        "+1-2",
        "\u0661-\u0662",
        "\u00b2-1",
        "1-" + "9" * 40,
    ],
)
def test_anything_else_is_refused_with_what_was_received(text: str) -> None:
    with pytest.raises(ValueError, match="a position is"):
        parse_position(text)
