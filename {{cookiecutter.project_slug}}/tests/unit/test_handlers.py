"""`handle` and `ahandle`, as the original's README documents them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient

from distributed_websocket.exceptions import InvalidSubscription, NotAllowed, WebSocketException
from distributed_websocket.handlers import ahandle, handle

CONNECTION: Any = SimpleNamespace(id="alice-1")


def describe(error: WebSocketException) -> str:
    assert error.connection is not None
    return f"{error.connection.id}: {error.message}"


async def adescribe(error: WebSocketException) -> str:
    return describe(error)


def refuse(topic: str) -> int:
    if topic == "fine":
        return 1
    raise NotAllowed(f"not {topic}", connection=CONNECTION)


async def arefuse(topic: str) -> int:
    return refuse(topic)


def test_handle_gives_the_exception_of_a_function_to_the_handler() -> None:
    function = handle(NotAllowed, describe)(refuse)
    assert function("room/1") == "alice-1: not room/1"
    assert function("fine") == 1


async def test_handle_sees_the_exceptions_of_a_coroutine_function() -> None:
    """The original returned the coroutine unawaited, outside of its `try`: the handler was never called."""
    function = handle(NotAllowed, describe)(arefuse)
    assert await function("room/1") == "alice-1: not room/1"
    assert await function(topic="fine") == 1


@pytest.mark.parametrize("function", [refuse, arefuse, partial(arefuse)])
async def test_ahandle_takes_sync_and_async_functions(function: Callable[[str], Any]) -> None:
    decorated = ahandle(NotAllowed, adescribe)(function)
    assert await decorated("room/1") == "alice-1: not room/1"
    assert await decorated("fine") == 1


def test_an_exception_from_further_down_the_stack_is_handled_and_a_subclass_is_too() -> None:
    @handle(WebSocketException, describe)
    def endpoint() -> str:
        def subscribe() -> None:
            raise InvalidSubscription("'a#' is not a pattern", connection=CONNECTION)

        subscribe()
        return "subscribed"

    assert endpoint() == "alice-1: 'a#' is not a pattern"


async def test_an_exception_of_another_type_passes() -> None:
    with pytest.raises(NotAllowed):
        handle(InvalidSubscription, describe)(refuse)("room/1")
    with pytest.raises(NotAllowed):
        await handle(InvalidSubscription, describe)(arefuse)("room/1")
    with pytest.raises(NotAllowed):
        await ahandle(InvalidSubscription, adescribe)(arefuse)("room/1")


async def test_methods_are_decorated_like_functions() -> None:
    class Room:
        name = "room/1"

        @handle(NotAllowed, describe)
        def enter(self) -> int:
            return refuse(self.name)

        @ahandle(NotAllowed, adescribe)
        async def aenter(self) -> int:
            return refuse(self.name)

        @classmethod
        @handle(NotAllowed, describe)
        def open(cls) -> int:
            return refuse(cls.name)

    assert {Room().enter(), await Room().aenter(), Room.open()} == {"alice-1: not room/1"}


async def test_the_caller_of_a_generator_is_decorated() -> None:
    def topics() -> Iterator[str]:
        yield "room/1"
        raise NotAllowed("no more", connection=CONNECTION)

    async def atopics() -> AsyncIterator[str]:
        for topic in topics():
            yield topic

    @handle(NotAllowed, describe)
    def read() -> list[str]:
        return list(topics())

    @ahandle(NotAllowed, adescribe)
    async def aread() -> list[str]:
        return [topic async for topic in atopics()]

    assert read() == await aread() == "alice-1: no more"


def test_a_generator_function_is_refused_because_its_exceptions_are_raised_elsewhere() -> None:
    def topics() -> Iterator[str]:
        yield "room/1"

    async def atopics() -> AsyncIterator[str]:
        yield "room/1"

    for function in (topics, atopics):
        for decorator in (handle(NotAllowed, describe), ahandle(NotAllowed, adescribe)):
            with pytest.raises(TypeError, match=rf"{function.__name__} is a generator function"):
                decorator(function)


def test_handle_refuses_a_coroutine_function_as_the_handler() -> None:
    """Nothing would await what it returns."""
    with pytest.raises(TypeError, match="adescribe is a coroutine function: use ahandle"):
        handle(NotAllowed, adescribe)


async def test_the_original_exception_is_kept_when_the_handler_raises() -> None:
    def fail(error: NotAllowed) -> None:
        raise RuntimeError("the handler's own")

    async def afail(error: NotAllowed) -> None:
        fail(error)

    with pytest.raises(RuntimeError) as caught:
        handle(NotAllowed, fail)(refuse)("room/1")
    assert isinstance(caught.value.__context__, NotAllowed)
    for decorated in (handle(NotAllowed, fail)(arefuse), ahandle(NotAllowed, afail)(arefuse)):
        with pytest.raises(RuntimeError) as caught:
            await decorated("room/1")
        assert isinstance(caught.value.__context__, NotAllowed)


def test_a_handler_may_raise_the_exception_on() -> None:
    def again(error: NotAllowed) -> None:
        raise error

    with pytest.raises(NotAllowed) as caught:
        handle(NotAllowed, again)(refuse)("room/1")
    assert caught.traceback[-1].name == "refuse"


def test_the_decorated_function_keeps_its_name_and_signature_for_fastapi() -> None:
    """FastAPI reads an endpoint's parameters from it, and this module's annotations are text."""
    app = FastAPI()

    async def tell(error: WebSocketException) -> None:
        connection: Any = error.connection
        await connection.send_json({"error": error.message})

    @app.websocket("/ws/{conn_id}")
    @ahandle(NotAllowed, tell)
    async def endpoint(ws: WebSocket, conn_id: str) -> None:
        """Say who is there."""
        connection: Any = ws
        await ws.accept()
        raise NotAllowed(f"{conn_id} may not", connection=connection)

    assert (endpoint.__name__, endpoint.__doc__) == ("endpoint", "Say who is there.")
    with TestClient(app).websocket_connect("/ws/7") as ws:
        assert ws.receive_json() == {"error": "7 may not"}
