"""What is published within a tick is one append; order, retries and bounds."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from distributed_websocket import publishing
from distributed_websocket.brokers.interface import Record
from distributed_websocket.exceptions import BrokerError, Overloaded
from distributed_websocket.publishing import MAX_BATCH, Pending, Publisher
from tests.deadline import eventually
from tests.faulty_broker import FaultyBroker


class Settled:
    """What senders were told, batch by batch."""

    def __init__(self) -> None:
        self.batches: list[list[Pending]] = []

    def __call__(self, batch: Sequence[Pending]) -> None:
        self.batches.append(list(batch))

    @property
    def all(self) -> list[Pending]:
        return [pending for batch in self.batches for pending in batch]


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker(shards=4)


@pytest.fixture
def settled() -> Settled:
    return Settled()


@pytest.fixture
def publisher(broker: FaultyBroker, settled: Settled) -> Publisher:
    return Publisher(broker, "channel", settled)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once() -> Iterator[float]:
        while True:
            yield 0.001

    monkeypatch.setattr(publishing, "delays", at_once)


def message(number: int, key: str = "", topic: str = "room/1") -> Pending:
    return Pending(Record(topic, b"%d" % number, (), key))


async def test_what_is_submitted_within_a_tick_is_one_append_in_order(
    publisher: Publisher, broker: FaultyBroker, settled: Settled
) -> None:
    for number in range(100):
        publisher.submit(message(number))
    assert publisher.waiting_bytes == 190
    await eventually(lambda: len(settled.all) == 100)
    assert len(broker.appends) == len(settled.batches) == 1
    assert broker.texts() == [b"%d" % number for number in range(100)]
    positions = [pending.position for pending in settled.all]
    assert positions == sorted(set(positions), key=positions.index)
    assert all(positions)
    assert publisher.waiting_bytes == 0


async def test_what_comes_while_a_batch_is_under_way_goes_together_in_the_next(
    publisher: Publisher, broker: FaultyBroker, settled: Settled
) -> None:
    broker.hanging.add("append")
    publisher.submit(message(0, key="a"))
    await eventually(lambda: len(broker.appends) == 1)
    for number in range(1, 4):
        publisher.submit(message(number))
    assert len(broker.appends) == 1
    await publisher.close(0)


async def test_batches_are_bounded_and_keep_their_order(
    publisher: Publisher, broker: FaultyBroker, settled: Settled
) -> None:
    count = 2 * MAX_BATCH + 1
    for number in range(count):
        publisher.submit(message(number))
    await eventually(lambda: len(settled.all) == count)
    assert [len(batch) for batch in broker.appends] == [MAX_BATCH, MAX_BATCH, 1]
    assert broker.texts() == [b"%d" % number for number in range(count)]


async def test_shards_do_not_wait_for_each_other(publisher: Publisher, broker: FaultyBroker, settled: Settled) -> None:
    topics = {broker.shard_of(f"t{number}"): f"t{number}" for number in range(50)}
    assert len(topics) == 4
    for topic in topics.values():
        publisher.submit(message(1, topic=topic))
        publisher.submit(message(2, topic=topic))
    await eventually(lambda: len(settled.all) == 8)
    assert [len(batch) for batch in broker.appends] == [2, 2, 2, 2]


async def test_a_record_with_a_key_is_tried_again_and_stored_once(
    publisher: Publisher, broker: FaultyBroker, settled: Settled
) -> None:
    broker.fail("append", BrokerError("the answer was lost"))
    broker.fails_after_storing = True
    publisher.submit(message(1, key="once"))
    await eventually(lambda: len(broker.appends) >= 3)
    broker.heal()
    await eventually(lambda: settled.all)
    assert settled.all[0].error is None
    log = await broker.range("channel", broker.shard_of("room/1"), "0-0", settled.all[0].position, limit=9)
    assert [entry.position for entry in log] == [settled.all[0].position]


async def test_records_without_a_key_fail_at_once_and_those_with_one_keep_their_order(
    publisher: Publisher, broker: FaultyBroker, settled: Settled
) -> None:
    broker.fail("append", BrokerError("down"))
    for number in range(6):
        publisher.submit(message(number, key=f"k{number}" if number % 2 else ""))
    await eventually(lambda: len(settled.all) == 3)
    assert [pending.record.body for pending in settled.all] == [b"0", b"2", b"4"]
    assert {str(pending.error) for pending in settled.all} == {"down"}
    publisher.submit(message(6))  # comes later, and must stay behind those that are tried again
    broker.heal()
    await eventually(lambda: len(settled.all) == 7)
    assert [pending.record.body for pending in settled.all[3:]] == [b"1", b"3", b"5", b"6"]
    positions = [pending.position for pending in settled.all[3:]]
    assert all(positions)
    assert publisher.waiting_bytes == 0


async def test_retrying_ends(broker: FaultyBroker, settled: Settled) -> None:
    publisher = Publisher(broker, "channel", settled, retry_seconds=0.5)
    broker.fail("append", BrokerError("down"))
    publisher.submit(message(1, key="k"))
    await eventually(lambda: settled.all)
    assert isinstance(settled.all[0].error, BrokerError)
    assert len(broker.appends) > 1


async def test_an_unforeseen_failure_is_told_to_the_sender_and_logged(
    publisher: Publisher, broker: FaultyBroker, settled: Settled, caplog: pytest.LogCaptureFixture
) -> None:
    broker.fail("append", ZeroDivisionError())
    publisher.submit(message(1))
    await eventually(lambda: settled.all)
    assert "unforeseen: ZeroDivisionError" in str(settled.all[0].error)
    assert "unforeseen way" in caplog.text


async def test_beyond_the_bound_nothing_more_is_taken_until_some_was_stored(
    broker: FaultyBroker, settled: Settled
) -> None:
    publisher = Publisher(broker, "channel", settled, max_waiting_bytes=2)
    publisher.submit(message(1))
    publisher.submit(message(2))
    with pytest.raises(Overloaded, match="2 bytes wait"):
        publisher.submit(message(3))
    await eventually(lambda: len(settled.all) == 2)
    publisher.submit(message(4))
    await eventually(lambda: len(settled.all) == 3)
    assert broker.texts() == [b"1", b"2", b"4"]


async def test_there_is_room_up_to_the_bound_and_again_when_some_was_stored(
    broker: FaultyBroker, settled: Settled
) -> None:
    publisher = Publisher(broker, "channel", settled, max_waiting_bytes=3)
    publisher.submit(message(1))
    assert (publisher.has_room(2), publisher.has_room(3)) == (True, False)
    await eventually(lambda: settled.all)
    assert publisher.has_room(3)


async def test_what_is_published_counts_at_once_and_beyond_the_bound_the_future_says_so(
    broker: FaultyBroker, settled: Settled
) -> None:
    publisher = Publisher(broker, "channel", settled, max_waiting_bytes=1)
    first = publisher.publish(Record("room/1", b"1"))
    assert not publisher.has_room(1)
    with pytest.raises(Overloaded):
        await publisher.publish(Record("room/1", b"2"))
    assert await first


async def test_publish_returns_the_position_or_raises_what_went_wrong(
    publisher: Publisher, broker: FaultyBroker
) -> None:
    position = await publisher.publish(Record("room/1", b"1"))
    assert (await broker.extent("channel", broker.shard_of("room/1"))).last == position
    assert (await publisher.publish(Record("room/1", b"1"), 3)) != position
    broker.fail("append", BrokerError("down"))
    with pytest.raises(BrokerError, match="down"):
        await publisher.publish(Record("room/1", b"1"))


async def test_who_waits_no_more_for_a_position_disturbs_nobody(
    publisher: Publisher, broker: FaultyBroker, settled: Settled
) -> None:
    waiting = asyncio.ensure_future(publisher.publish(Record("room/1", b"1")))
    await asyncio.sleep(0)
    publisher.submit(message(2))
    waiting.cancel()
    await eventually(lambda: len(settled.all) == 2)


async def test_a_batch_whose_senders_cannot_be_told_does_not_hold_up_the_next(
    broker: FaultyBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended the task of the shard: what waited behind it stayed there until somebody else published."""
    calls: list[int] = []

    def settle(batch: Sequence[Pending]) -> None:
        calls.append(len(batch))
        raise RuntimeError("a connection that cannot be written to")

    publisher = Publisher(broker, "channel", settle)
    for number in range(MAX_BATCH + 1):
        publisher.submit(message(number))
    await eventually(lambda: calls == [MAX_BATCH, 1])
    assert "telling the senders" in caplog.text


async def test_closing_waits_for_what_was_submitted(publisher: Publisher, broker: FaultyBroker) -> None:
    publisher.submit(message(1))
    await publisher.close(within_seconds=5)
    assert broker.texts() == [b"1"]
    await publisher.close(within_seconds=5)


async def test_closing_gives_up_on_a_broker_that_does_not_answer(publisher: Publisher, broker: FaultyBroker) -> None:
    broker.hanging.add("append")
    publisher.submit(message(1))
    async with asyncio.timeout(10):
        await publisher.close(within_seconds=0.01)
