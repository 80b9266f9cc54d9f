"""One client: what it says is read and judged, what it is sent goes in order, and closing never waits for it."""

import asyncio

import pytest
from fastapi import WebSocketDisconnect

from distributed_websocket import CloseCode, Connection, ErrorCode, Limits, Message, WebSocketManager, connection
from distributed_websocket.exceptions import InvalidMessage
from tests.deadline import eventually
from tests.wire import RawWire, Wire, accepted, raw_connection


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def client(wire: Wire) -> Connection:
    return await accepted(wire)


async def test_a_connection_is_what_it_was_made_of(wire: Wire) -> None:
    made = Connection(wire.websocket, "c1", "room/1", user="alice")
    assert (made.id, made.topics, made.user, made.manager) == ("c1", {"room/1"}, "alice", None)
    assert Connection(wire.websocket, "c1").topics == set()
    assert repr(made) == "<Connection c1 user='alice' topics=1>"


async def test_accepting_passes_on_the_subprotocol_and_headers(wire: Wire) -> None:
    await Connection(wire.websocket, "c1").accept("chat.v1", [(b"x", b"y")])
    assert wire.events == [{"type": "websocket.accept", "subprotocol": "chat.v1", "headers": [(b"x", b"y")]}]


# Receiving


async def test_what_is_no_object_is_answered_with_an_error_and_passed_over(wire: Wire, client: Connection) -> None:
    for said in ("not json", b"binary", "[1]", {"n": 1}):
        wire.say(said)
    assert await client.receive_json() == {"n": 1}
    await client.outbox.flushed()
    assert [(m["type"], m["code"]) for m in wire.received] == [("error", "malformed_json")] * 3


async def test_receiving_from_a_client_that_is_gone_raises_its_close_code(wire: Wire, client: Connection) -> None:
    wire.vanish(1001)
    with pytest.raises(WebSocketDisconnect) as gone:
        await client.receive_json()
    assert gone.value.code == 1001


async def test_iterating_over_json_ends_with_the_connection(wire: Wire, client: Connection) -> None:
    wire.say({"n": 1})
    wire.say({"n": 2})
    wire.vanish()
    assert [fields["n"] async for fields in client.iter_json()] == [1, 2]


async def test_iterating_over_the_connection_gives_valid_messages_only(wire: Wire, client: Connection) -> None:
    wire.say({"type": "no such type", "ref": 1})
    wire.say("not json")
    wire.say({"type": "send", "topic": "a"})
    received = []
    async for message in client:
        received.append(message)
        await client.outbox.flushed()
        wire.vanish()
    assert received == [Message(topic="a", data={})]
    assert [(m["code"], m["ref"]) for m in wire.received] == [("unknown_type", 1), ("malformed_json", None)]


async def test_iterating_over_a_managers_connection_gives_the_services_own_types_too(wire: Wire) -> None:
    async with WebSocketManager("channel") as manager:
        manager.on("shout")(lambda connection, message: None)
        client = await manager.new_connection(wire.websocket, "c1")
        wire.say({"type": "shout", "n": 1})
        wire.vanish()
        assert [message async for message in client] == [Message(type="shout", data={"n": 1})]


async def test_messages_are_bounded_in_size() -> None:
    wire = Wire()
    client = await accepted(wire, limits=Limits(message_bytes=20))
    wire.say('{"a":"' + "x" * 20 + '"}')
    wire.say({"a": 1})
    assert await client.receive_json() == {"a": 1}
    await client.outbox.flushed()
    assert wire.received[0]["code"] == ErrorCode.TOO_LARGE


async def test_messages_are_bounded_in_rate_and_what_cannot_be_read_counts() -> None:
    raw = RawWire()
    client = raw_connection(raw, limits=Limits(messages_per_second=0.001, message_burst=2))
    assert client.read("{}") == {}
    assert client.read("not json") is None
    assert client.read('{"ref":1}') is None
    assert client.read("not json") is None
    assert [(m["code"], m["ref"]) for m in raw.received] == [
        ("malformed_json", None),
        ("rate_limited", 1),
        ("malformed_json", None),
    ]


async def test_a_rate_of_none_is_no_bound() -> None:
    client = raw_connection(RawWire(), limits=Limits(messages_per_second=None, message_burst=1))
    assert all(client.read("{}") == {} for _ in range(500))


# Sending


async def test_what_is_sent_arrives_in_order(wire: Wire, client: Connection) -> None:
    client.write_json({"n": 1})
    await client.send_json({"n": 2})
    assert [message["n"] for message in wire.received] == [1, 2]


async def test_an_error_says_what_was_wrong_and_with_which_request(wire: Wire, client: Connection) -> None:
    client.send_error(InvalidMessage("so wrong", code=ErrorCode.TOO_LARGE), "r")
    await client.outbox.flushed()
    assert wire.received == [{"type": "error", "code": "too_large", "detail": "so wrong", "ref": "r"}]


# Closing


async def test_closing_sends_what_was_written_and_then_the_code_with_its_reason(wire: Wire, client: Connection) -> None:
    client.write_json({"n": 1})
    await client.close(CloseCode.DRAIN)
    assert [event["type"] for event in wire.events] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert (wire.events[-1]["code"], wire.events[-1]["reason"]) == (1012, CloseCode.DRAIN.reason)
    await client.close()


async def test_any_code_and_reason_may_be_given(wire: Wire, client: Connection) -> None:
    await client.close(4321, "because")
    assert (wire.events[-1]["code"], wire.events[-1]["reason"]) == (4321, "because")


async def test_closing_a_client_that_is_gone_is_no_error(wire: Wire, client: Connection) -> None:
    wire.vanish()
    await client.close()


async def test_closing_does_not_wait_for_a_client_that_stalls(
    wire: Wire, client: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_SECONDS", 0.02)
    wire.stall()
    client.write_json({"n": 1})
    async with asyncio.timeout(2):
        await client.close(CloseCode.DRAIN)
    wire.resume()
    await eventually(lambda: wire.close_codes == [CloseCode.SLOW])
