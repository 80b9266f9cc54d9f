"""Batches to sockets: framing, one write per connection and batch, order, and the bound for slow clients."""

import asyncio
import itertools
import logging
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from distributed_websocket import CloseCode, Connection
from distributed_websocket.brokers.interface import Entry
from distributed_websocket.delivery import (
    AsgiOutbox,
    Bundle,
    RawOutbox,
    fan_out,
    frame_text,
    open_outbox,
)
from distributed_websocket.limits import Limits
from distributed_websocket.topics import TopicIndex
from tests.deadline import eventually
from tests.wire import RawWire, Wire, accepted, raw_connection


def entry(number: int, topic: str = "room/1", conn_ids: tuple[str, ...] = ()) -> Entry:
    return Entry(f"{number}-0", topic, b'{"type":"send","n":%d}' % number, conn_ids)


def bundle(*texts: str) -> Bundle:
    return Bundle([text.encode() for text in texts])


# Frames


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_frame_is_what_a_websocket_library_reads_back(length: int) -> None:
    client = Protocol(CLIENT, max_size=None)
    client.receive_data(frame_text(b"x" * length))
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin, bytes(event.data)) == (Opcode.TEXT, True, b"x" * length)


@given(st.lists(st.text(max_size=300), max_size=20))
def test_a_bundle_is_all_its_texts_in_order_either_way(texts: list[str]) -> None:
    several = bundle(*texts)
    client = Protocol(CLIENT)
    client.receive_data(several.frames)
    assert [bytes(event.data).decode() for event in client.events_received() if isinstance(event, Frame)] == texts
    assert several.texts == texts
    assert several.size == sum(len(text.encode()) for text in texts)


def test_a_bundle_is_framed_once_for_all_who_share_it() -> None:
    shared = bundle("a", "b")
    assert shared.frames is shared.frames
    assert shared.texts is shared.texts


# The raw way out


def test_a_raw_outbox_writes_a_bundle_in_one_go() -> None:
    wire = RawWire()
    RawOutbox(wire, 100).write(bundle("a", "b"))
    assert wire.writes == [bundle("a", "b").frames]


def test_a_raw_client_that_is_too_slow_is_ended_once_and_gets_nothing_more() -> None:
    wire = RawWire()
    outbox = RawOutbox(wire, 100)
    wire.unsent_bytes = 100
    outbox.write(bundle("still within the bound"))
    wire.unsent_bytes = 101
    outbox.write(bundle("beyond"))
    wire.unsent_bytes = 0
    outbox.write(bundle("after the end"))
    outbox.end(CloseCode.DRAIN)
    assert wire.ends == [CloseCode.SLOW]
    assert wire.texts == [b"still within the bound"]
    assert outbox.unsent_bytes == 0


async def test_a_raw_outbox_is_flushed_when_the_socket_is_drained() -> None:
    await RawOutbox(RawWire(), 100).flushed()


# The ASGI way out


async def test_an_asgi_outbox_sends_in_order_and_then_holds_no_task() -> None:
    wire = Wire()
    connection = await accepted(wire)
    connection.outbox.write(bundle('{"n":1}', '{"n":2}'))
    connection.outbox.write(bundle('{"n":3}'))
    await connection.outbox.flushed()
    assert [message["n"] for message in wire.received] == [1, 2, 3]
    assert connection.outbox.unsent_bytes == 0
    await connection.outbox.flushed()


async def test_a_slow_asgi_client_is_ended_with_4001_and_its_memory_is_bounded() -> None:
    wire = Wire()
    connection = await accepted(wire, limits=Limits(unsent_bytes=1_000))
    wire.stall()
    for _ in range(100):
        connection.outbox.write(bundle("x" * 100))
    assert connection.outbox.unsent_bytes <= 1_100
    wire.resume()
    await eventually(lambda: wire.close_codes == [CloseCode.SLOW])
    assert wire.received == []


async def test_flushing_returns_after_an_asgi_connection_was_ended() -> None:
    """The task that had closed the socket was taken for one that sends, for ever: `send_json` never returned."""
    wire = Wire()
    connection = await accepted(wire)
    connection.outbox.end(CloseCode.SLOW)
    async with asyncio.timeout(1):
        await connection.outbox.flushed()
        await connection.send_json({"type": "late"})
    connection.outbox.end(CloseCode.DRAIN)
    assert wire.close_codes == [CloseCode.SLOW]


async def test_an_asgi_client_that_is_gone_is_forgotten_quietly(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    connection = await accepted(wire)
    wire.vanish()
    connection.outbox.write(bundle("{}"))
    await connection.outbox.flushed()
    connection.outbox.write(bundle("{}"))
    assert connection.outbox.unsent_bytes == 0
    assert wire.events == [{"type": "websocket.accept", "subprotocol": None, "headers": []}]
    assert not caplog.records


async def test_an_asgi_client_that_goes_while_it_is_closed_is_no_error() -> None:
    wire = Wire()
    connection = await accepted(wire)
    wire.vanish()
    connection.outbox.end(CloseCode.DRAIN)
    await connection.outbox.flushed()


async def test_what_cannot_be_sent_over_asgi_ends_the_connection_instead_of_leaving_a_hole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wire = Wire()
    connection = await accepted(wire)
    connection.outbox.write(Bundle([b"\xff no UTF-8"]))
    connection.outbox.write(bundle("{}"))
    await eventually(lambda: wire.close_codes == [CloseCode.INTERNAL_ERROR])
    assert wire.received == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_the_server_decides_which_way_out_a_connection_has() -> None:
    assert isinstance(open_outbox(Wire().websocket, 1), AsgiOutbox)
    assert isinstance(raw_connection(RawWire()).outbox, RawOutbox)


# Fan-out


def to(connections: Collection[Connection]) -> dict[str, Collection[Connection]]:
    return {"room/1": connections}


def test_one_topic_is_one_write_of_the_same_bytes_for_everybody() -> None:
    wires = [RawWire() for _ in range(3)]
    connections = {raw_connection(wire) for wire in wires}
    entries = [entry(number) for number in range(5)]
    assert fan_out(entries, lambda _: connections) == 15
    first = wires[0].writes
    assert len(first) == 1
    assert all(wire.writes[0] is first[0] for wire in wires)
    assert [message["id"] for message in wires[0].received] == [f"{number}-0" for number in range(5)]


def test_a_batch_that_nobody_wants_is_not_even_encoded() -> None:
    assert fan_out([entry(1)], lambda _: ()) == 0
    assert fan_out([entry(1), entry(2, "room/2")], lambda _: ()) == 0


def test_several_topics_in_a_batch_are_one_write_in_the_order_of_the_log() -> None:
    both, one = RawWire(), RawWire()
    index: TopicIndex[Connection] = TopicIndex()
    wants_both, wants_one = raw_connection(both), raw_connection(one)
    index.add("room/+", wants_both)
    index.add("room/1", wants_both)
    index.add("room/2", wants_one)
    entries = [entry(number, f"room/{1 + number % 2}") for number in range(10)]
    assert fan_out(entries, lambda e: index.match(e.topic)) == 15
    assert len(both.writes) == len(one.writes) == 1
    assert [message["n"] for message in both.received] == list(range(10))
    assert [message["n"] for message in one.received] == [1, 3, 5, 7, 9]


@given(st.data())
def test_everybody_gets_exactly_what_its_patterns_match_once_and_in_order(data: st.DataObject) -> None:
    topics = ["a", "b", "a/x", "b/x"]
    patterns = [*topics, "#", "+", "a/#", "+/x"]
    index: TopicIndex[Connection] = TopicIndex()
    wires = [RawWire() for _ in range(4)]
    for wire in wires:
        connection = raw_connection(wire)
        for pattern in data.draw(st.sets(st.sampled_from(patterns))):
            index.add(pattern, connection)
            connection.topics.add(pattern)
    connections = {c for p in patterns for t in topics for c in index.match(t)}
    entries = [entry(n, t) for n, t in enumerate(data.draw(st.lists(st.sampled_from(topics), min_size=1)))]
    count = fan_out(entries, lambda e: index.match(e.topic))
    assert count == sum(len(index.match(e.topic)) for e in entries)
    for connection, wire in itertools.product(connections, wires):
        if connection.raw == wire:
            assert [m["n"] for m in wire.received] == [
                n for n, e in enumerate(entries) if connection in index.match(e.topic)
            ]
            assert len(wire.writes) <= 1


@pytest.mark.parametrize("topics", [["room/1"], ["room/1", "room/2"]])
def test_one_broken_connection_does_not_hurt_its_neighbours(
    topics: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    wires = [RawWire() for _ in range(3)]
    connections = [raw_connection(wire) for wire in wires]
    wires[1].failure = RuntimeError("broken")
    fan_out([entry(1, topic) for topic in topics], lambda _: connections)
    assert len(wires[0].received) == len(wires[2].received) == len(topics)
    assert wires[1].ends == [CloseCode.INTERNAL_ERROR]
    assert "could not write" in caplog.text


def test_a_batch_reaches_the_others_even_if_a_broken_connection_cannot_be_ended(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception here would make the reader repeat the batch: everybody before the broken one would get it twice."""
    wires = [RawWire() for _ in range(3)]
    connections = [raw_connection(wire) for wire in wires]

    def refuse(code: CloseCode) -> None:
        raise RuntimeError("cannot be closed")

    wires[1].failure = RuntimeError("broken")
    monkeypatch.setattr(wires[1], "end", refuse)
    fan_out([entry(1)], lambda _: connections)
    assert len(wires[0].received) == len(wires[2].received) == 1
