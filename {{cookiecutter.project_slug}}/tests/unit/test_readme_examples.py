"""The examples of the original library's README, run as they are written.

Added are the `@`s that are missing there, imports, and what was elided with `...`; in the last one, the name of the
parameter, which its body spells otherwise. The address of the service behind the gateway is the test's.
"""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Optional

import orjson
import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect, status
from websockets.asyncio.client import connect

from distributed_websocket import (
    Connection,
    InvalidSubscription,
    Message,
    WebSocketException,
    WebSocketManager,
    ahandle,
    handle,
)
from tests.deadline import eventually
from tests.plain_brokers import PlainBroker
from tests.wire import RawWire, Wire
from tests.workers import ASGI, PROTOCOLS, Client, connected, serving

EXAMPLES: list[str] = re.findall(
    r"```python\n(.*?)```", Path(__file__).with_name("original_readme_examples.md").read_text("utf-8"), re.DOTALL
)

pytestmark = pytest.mark.filterwarnings("ignore:\\s*on_event is deprecated:DeprecationWarning")


def run(number: int, *edits: tuple[str, str], **names: Any) -> dict[str, Any]:
    """Execute an example and return its names. Each edit must apply."""
    source = EXAMPLES[number]
    for old, new in edits:
        assert old in source
        source = source.replace(old, new)
    namespace = {"Any": Any, "Optional": Optional, "FastAPI": FastAPI, "WebSocket": WebSocket, **names}
    exec(compile(source, f"example {number}", "exec"), namespace)
    return namespace


MISSING_AT = ("\napp.on_event(", "\n@app.on_event(")


def basic() -> dict[str, Any]:
    return run(0, MISSING_AT)


def with_receive(**options: Any) -> dict[str, Any]:
    """The second example continues the first: its app and manager are the first one's, its endpoint is its own."""
    first = basic()
    app = FastAPI()
    manager = WebSocketManager("channel:1", **options) if options else first["manager"]
    app.router.on_event("startup")(manager.startup)
    app.router.on_event("shutdown")(manager.shutdown)
    return run(
        1, app=app, manager=manager, Connection=Connection, status=status, WebSocketDisconnect=WebSocketDisconnect
    )


@contextlib.asynccontextmanager
async def served(namespace: dict[str, Any], protocol: str = ASGI) -> AsyncIterator[str]:
    async with serving(namespace["app"], protocol, lifespan="on") as (_, address):
        yield f"ws://{address}"


def test_all_examples_are_here() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["asgi", "raw"])
async def test_basic_usage(protocol: str) -> None:
    namespace = basic()
    async with served(namespace, protocol) as url:
        async with connected(f"{url}/ws/one") as one, connected(f"{url}/ws/two") as two:
            await one.socket.send('{"anything":"goes"}')
            for client in (one, two):
                assert await client.receive() == {"anything": "goes"}
        await eventually(lambda: namespace["manager"].active_connections == [])


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=["asgi", "raw"])
async def test_basic_usage_with_receive(protocol: str) -> None:
    namespace = with_receive()
    async with served(namespace, protocol) as url:
        async with connected(f"{url}/ws/one") as one, connected(f"{url}/ws/two?topic=ignored") as two:
            await two.subscribe("room/+")
            await one.publish("room/1", "hello")
            (message,) = await two.delivered(1)
            assert message["data"] == "hello"
        await eventually(lambda: namespace["manager"].active_connections == [])


async def test_a_broker_of_the_users_own_with_just_the_six_coroutines() -> None:
    one, other = with_receive(broker_class=PlainBroker), with_receive(broker_class=PlainBroker)
    async with served(one) as near, served(other) as far:
        await eventually(lambda: all(names["manager"].not_ready_reason is None for names in (one, other)))
        async with connected(f"{near}/ws/one") as sender, connected(f"{far}/ws/two") as receiver:
            await receiver.subscribe("room/1")
            await sender.publish("room/1", "hello")
            (message,) = await receiver.delivered(1)
            assert message["data"] == "hello"


async def test_a_proxy_from_an_api_gateway() -> None:
    echo = FastAPI()

    @echo.websocket("/wshandler")
    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    async with serving(echo, ASGI) as (_, address):
        namespace = run(2, ("websocket_service:8000", address))
        async with served(namespace) as url, connect(f"{url}/ws", proxy=None) as client:
            await client.send("there and back")
            assert await client.recv() == "there and back"


async def test_a_proxy_to_the_previous_example() -> None:
    async with served(with_receive()) as service:
        namespace = run(
            3, ("ws://websocket_service:8000", service), ("    ws: WebSocket,", "    websocket: WebSocket,")
        )
        async with served(namespace) as url, connect(f"{url}/ws/one", proxy=None) as websocket:
            client = Client(websocket)
            assert (await client.until("welcome"))["conn_id"] == "one"
            await client.subscribe("room/1")
            await client.publish("room/1", "through the gateway")
            (message,) = await client.delivered(1)
            assert message["data"] == "through the gateway"


# The API reference beside the examples: what it awaits is awaitable, what it calls plainly needs no await


async def test_methods_that_are_called_plainly_may_be_awaited_and_the_other_way_round() -> None:
    async with WebSocketManager("channel:1", broker_url="memory://") as manager:
        raw = RawWire()
        connection = await manager.new_connection(Wire(raw).websocket, "c1", topic="a")
        for method, message in (
            (manager.send, Message(type="send", topic="a", data={"n": 1})),
            (manager.broadcast, Message(type="broadcast", data={"n": 2})),
            (manager.send_by_conn_id, Message(type="send_by_conn_id", conn_id="c1", data={"n": 3})),
            (manager.send_msg, Message(type="send", topic="a", data={"n": 4})),
        ):
            method(message)
            await method(message.__serialize__())
        manager.set_conn_id(connection, "c2")
        await manager.set_conn_id(connection, "c1")
        assert [m["n"] for m in raw.received if "n" in m] == [1, 1, 2, 2, 3, 3, 4, 4]
        await manager.receive(connection, {"type": "unsubscribe", "topic": "a"})
        manager.remove_connection(connection)
        await manager.remove_connection(connection)
        other = await manager.new_connection(Wire().websocket, "c1")
        await manager.close_connection(other, status.WS_1001_GOING_AWAY)
        assert manager.active_connections == []


async def test_a_connection_has_what_the_reference_lists() -> None:
    wire = Wire()
    connection = Connection(wire.websocket, "c1")
    await connection.accept()
    wire.say({"n": 1})
    assert await connection.receive_json() == {"n": 1}
    await connection.send_json({"n": 2})
    wire.say({"n": 3})
    async for fields in connection.iter_json():
        assert fields == {"n": 3}
        await connection.close(code=1000)
    assert (orjson.loads(wire.events[1]["text"]), wire.close_codes) == ({"n": 2}, [1000])


async def test_exceptions_carry_their_connection_to_the_handler() -> None:
    connection = Connection(Wire().websocket, "c1")

    @handle(InvalidSubscription, lambda exc: exc.connection)
    def plain() -> None:
        raise InvalidSubscription("bad", connection=connection)

    async def handler(exc: WebSocketException) -> Connection | None:
        return exc.connection

    @ahandle(WebSocketException, handler)
    async def coroutine() -> None:
        raise InvalidSubscription("bad", connection=connection)

    assert plain() is connection
    assert await coroutine() is connection
