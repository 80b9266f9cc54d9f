"""The error tree and the codes."""

from types import SimpleNamespace
from typing import Any

import pytest

from distributed_websocket import exceptions
from distributed_websocket.codes import CloseCode, ErrorCode, may_reconnect
from distributed_websocket.exceptions import (
    BrokerError,
    InvalidMessage,
    InvalidSubscription,
    InvalidSubscriptionMessage,
    LimitExceeded,
    NotAllowed,
    Overloaded,
    WebSocketException,
    quote,
)

CONNECTION: Any = SimpleNamespace(id="alice-1")

TREE = {
    InvalidMessage: (WebSocketException, ErrorCode.INVALID_MESSAGE),
    InvalidSubscriptionMessage: (InvalidMessage, ErrorCode.INVALID_MESSAGE),
    InvalidSubscription: (InvalidSubscriptionMessage, ErrorCode.INVALID_TOPIC),
    NotAllowed: (WebSocketException, ErrorCode.NOT_ALLOWED),
    LimitExceeded: (WebSocketException, ErrorCode.RATE_LIMITED),
    Overloaded: (WebSocketException, ErrorCode.OVERLOADED),
    BrokerError: (WebSocketException, ErrorCode.UNAVAILABLE),
}


def test_the_base_is_an_ordinary_exception() -> None:
    """The original's derived from BaseException, so that `except Exception` let it kill the task around it."""
    assert WebSocketException.__bases__ == (Exception,)
    assert WebSocketException("what", connection=CONNECTION).code is ErrorCode.INTERNAL_ERROR


@pytest.mark.parametrize("exception", TREE)
def test_each_class_has_its_parent_and_its_code(exception: type[WebSocketException]) -> None:
    assert (exception.__base__, exception.code) == TREE[exception]


@pytest.mark.parametrize("exception", [WebSocketException, *TREE])
def test_the_original_signature_works(exception: type[WebSocketException]) -> None:
    error = exception("no such room", connection=CONNECTION)
    assert (error.message, error.connection, error.received, str(error)) == (
        "no such room",
        CONNECTION,
        None,
        "no such room",
    )


def test_an_exception_carries_what_was_received_and_does_not_print_it() -> None:
    """Exceptions are logged; the bodies of messages must not be."""
    error = InvalidMessage("no type", received={"data": "secret"})
    assert error.received == {"data": "secret"}
    assert error.connection is None
    assert "secret" not in f"{error} {error!r}"


def test_a_given_code_replaces_the_one_of_the_class_for_this_error_alone() -> None:
    assert LimitExceeded("too long", code=ErrorCode.TOO_LARGE).code is ErrorCode.TOO_LARGE
    assert LimitExceeded("too often").code is ErrorCode.RATE_LIMITED


def test_the_outline_in_the_docstring_is_the_tree() -> None:
    outline = str(exceptions.__doc__)
    names = [line.strip("│├└─ ").split()[0] for line in outline.splitlines() if "──" in line]
    assert names == [exception.__name__ for exception in TREE]


@pytest.mark.parametrize(
    ("received", "quoted"),
    [
        ("room/1", "'room/1'"),
        ("x" * 80, repr("x" * 80)),
        ("x" * 81, "'" + "x" * 79 + "..."),
        ("é/\0\ud800", r"'é/\x00\ud800'"),
        (None, "null"),
        pytest.param(10**5000, "int", id="a number too long to print"),
        (["deep"], "list"),
    ],
)
def test_what_was_received_is_quoted(received: object, quoted: str) -> None:
    assert quote(received) == quoted


@pytest.mark.parametrize("received", ["x" * 1_000_000, "\U000e0001" * 80, "\ud800" * 80])
def test_a_quotation_is_short_and_can_be_sent_whatever_was_received(received: str) -> None:
    assert len(quote(received)) <= 83
    assert quote(received).encode()


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
