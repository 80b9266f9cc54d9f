"""The error tree."""

from types import SimpleNamespace
from typing import Any

import pytest

from distributed_websocket import exceptions
from distributed_websocket.codes import ErrorCode
from distributed_websocket.exceptions import (
    BrokerError,
    InvalidMessage,
    InvalidSubscription,
    InvalidSubscriptionMessage,
    InvalidToken,
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
    InvalidToken: (WebSocketException, ErrorCode.INVALID_TOKEN),
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
