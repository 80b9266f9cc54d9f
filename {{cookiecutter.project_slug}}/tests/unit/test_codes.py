"""The close codes, and what each of them means to a client that wants to come back."""

import pytest

from distributed_websocket.codes import CloseCode, may_reconnect


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (1000, False),
        (1001, True),
        (1006, True),
        (1008, False),
        (1009, False),
        (1011, True),
        (1012, True),
        (1013, True),
        (3999, True),
        (4000, True),
        (4499, True),
        (4500, False),
        (4999, False),
    ],
)
def test_a_close_code_says_whether_to_come_back(code: int, reconnect: bool) -> None:
    assert may_reconnect(code) is reconnect


def test_the_close_codes_carry_the_policy_that_their_names_promise() -> None:
    """A slow client or one with an old token must come back; a refused one must not."""
    terminal = {code for code in CloseCode if not code.reconnect}
    assert terminal == {
        CloseCode.NORMAL,
        CloseCode.POLICY_VIOLATION,
        CloseCode.MESSAGE_TOO_BIG,
        CloseCode.CONNECTION_LIMIT,
    }
    assert CloseCode(4001) is CloseCode.SLOW


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_reason_fits_into_a_control_frame(code: CloseCode) -> None:
    """RFC 6455 §5.5: 125 bytes, two of them for the code."""
    assert len(code.reason.encode()) <= 123
