"""What `import distributed_websocket` gives: all that the original promised, typed and described."""

import inspect
import types
from pathlib import Path

import pytest

import distributed_websocket
from distributed_websocket import exceptions
from distributed_websocket.exceptions import WebSocketException

ORIGINAL = """
    WebSocketManager WebSocketProxy WebSocketOAuth2PasswordBearer Connection BrokerInterface InMemoryBroker RedisBroker
    create_broker BrokerT Message handle ahandle WebSocketException InvalidSubscription InvalidSubscriptionMessage
    matches subscribe unsubscribe handle_subscription_message is_valid_broker
"""


def test_the_twenty_names_of_the_original_are_there() -> None:
    names = ORIGINAL.split()
    assert len(names) == 20
    assert set(names) <= set(distributed_websocket.__all__)


def test_the_list_of_names_is_all_there_is() -> None:
    given = {
        name
        for name, value in vars(distributed_websocket).items()
        if not (name.startswith("_") or isinstance(value, types.ModuleType))
    }
    assert given == set(distributed_websocket.__all__)


@pytest.mark.parametrize("name", distributed_websocket.__all__)
def test_each_name_is_described(name: str) -> None:
    value = getattr(distributed_websocket, name)
    assert inspect.getdoc(value), name
    assert value.__doc__ is not None, "it has that of its base"


def test_all_exceptions_are_in_one_tree() -> None:
    tree = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, WebSocketException)
    }
    assert tree <= set(distributed_websocket.__all__)


def test_type_checkers_are_told_that_it_is_typed() -> None:
    """PEP 561."""
    assert Path(distributed_websocket.__file__).with_name("py.typed").exists()
