"""The life of a connection between accept and end, with a task of its own and without one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from distributed_websocket import CloseCode, WebSocketManager
from distributed_websocket.delivery import Receiver
from distributed_websocket.exceptions import BrokerError
from tests.deadline import eventually
from tests.faulty_broker import FaultyBroker
from tests.wire import RawWire, Wire


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker()


@pytest.fixture
async def manager(broker: FaultyBroker) -> AsyncIterator[WebSocketManager]:
    async with WebSocketManager("channel", broker=broker, probe_seconds=None) as manager:
        await eventually(lambda: manager.not_ready_reason is None)
        yield manager


@pytest.fixture
async def raw(manager: WebSocketManager) -> RawWire:
    raw = RawWire()
    await manager.serve(await manager.new_connection(Wire(raw).websocket, "c1"))
    return raw


def receiver(raw: RawWire) -> Receiver:
    assert raw.receiver is not None
    return raw.receiver


def kinds(raw: RawWire) -> list[str]:
    return [message["type"] for message in raw.received[1:]]


async def test_over_asgi_the_endpoint_lasts_as_long_as_its_client(manager: WebSocketManager) -> None:
    wire = Wire()
    connection = await manager.new_connection(wire.websocket, "c1")
    serving = asyncio.create_task(manager.serve(connection))
    wire.say({"type": "subscribe", "topic": "room/1"})
    wire.say({"type": "send", "topic": "room/1", "ref": 1})
    assert {message["type"] for message in await wire.gets(4)} == {"welcome", "subscribed", "send", "ack"}
    wire.vanish()
    await asyncio.wait_for(serving, 10)
    assert (len(manager), len(manager.index)) == (0, 0)


async def test_over_asgi_a_connection_is_kept_no_more_when_its_endpoint_is_cancelled(
    manager: WebSocketManager,
) -> None:
    connection = await manager.new_connection(Wire().websocket, "c1")
    serving = asyncio.create_task(manager.serve(connection))
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert len(manager) == 0


async def test_a_raw_connection_needs_no_task(manager: WebSocketManager, raw: RawWire) -> None:
    tasks = asyncio.all_tasks()
    receiver(raw).on_message('{"type":"unsubscribe","topic":"room/1"}')
    receiver(raw).on_message("not json")
    receiver(raw).on_message(None)
    assert kinds(raw) == ["unsubscribed", "error", "error"]
    assert asyncio.all_tasks() == tasks
    receiver(raw).on_closed()
    assert len(manager) == 0


async def test_what_comes_while_a_request_waits_is_held_back_and_handled_in_order(
    manager: WebSocketManager, broker: FaultyBroker, raw: RawWire
) -> None:
    broker.hanging.add("extent")
    manager.feed._readers.clear()  # type: ignore[attr-defined]  # so that subscribing has to wait
    for text in ('{"type":"subscribe","topic":"a"}', '{"type":"unsubscribe","topic":"b"}', "not json", None):
        receiver(raw).on_message(text)
    receiver(raw).on_message('{"type":"history","topic":"a"}')
    assert raw.paused
    await asyncio.sleep(0)
    assert kinds(raw) == []
    broker.heal()
    await eventually(lambda: kinds(raw) == ["subscribed", "unsubscribed", "error", "error", "history"])
    await eventually(lambda: not raw.paused)
    receiver(raw).on_message('{"type":"unsubscribe","topic":"b"}')
    assert kinds(raw)[-1] == "unsubscribed"


async def test_a_client_that_goes_while_its_request_waits_leaves_nothing_behind(
    manager: WebSocketManager, broker: FaultyBroker, raw: RawWire
) -> None:
    tasks = asyncio.all_tasks()
    broker.hanging.add("range_back")

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    broker.range_back = hang  # type: ignore[method-assign,assignment]
    receiver(raw).on_message('{"type":"history","topic":"a"}')
    receiver(raw).on_message('{"type":"subscribe","topic":"a"}')
    await asyncio.sleep(0)
    receiver(raw).on_closed()
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    assert (len(manager), len(manager.index)) == (0, 0)


@pytest.mark.parametrize("when", ["at once", "after waiting", "while held back"])
async def test_an_exception_ends_the_connection_with_1011(
    manager: WebSocketManager,
    broker: FaultyBroker,
    raw: RawWire,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    when: str,
) -> None:
    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    if when == "at once":
        monkeypatch.setattr(manager.policy, "may_publish", broken)
        receiver(raw).on_message('{"type":"send","topic":"a"}')
    elif when == "after waiting":
        monkeypatch.setattr(manager.policy, "may_subscribe", broken)
        receiver(raw).on_message('{"type":"history","topic":"a"}')
    else:
        monkeypatch.setattr(manager.policy, "may_publish", broken)
        receiver(raw).on_message('{"type":"history","topic":"a"}')
        receiver(raw).on_message('{"type":"send","topic":"a"}')
    await eventually(lambda: raw.ends == [CloseCode.INTERNAL_ERROR])
    assert "unforeseen way" in caplog.text
    await eventually(lambda: not raw.paused)


async def test_a_request_that_waits_and_is_refused_is_answered(
    broker: FaultyBroker, raw: RawWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object, **__: object) -> None:
        raise BrokerError("down")

    monkeypatch.setattr(broker, "range_back", down)
    receiver(raw).on_message('{"type":"history","topic":"a","ref":1}')
    await eventually(lambda: raw.received[-1] == {"type": "error", "code": "unavailable", "detail": "down", "ref": 1})
