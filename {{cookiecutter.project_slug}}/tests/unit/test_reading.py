"""A reader hears one shard, knows when it does not, and goes on where it was: nothing lost, nothing twice."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest

from distributed_websocket import reading
from distributed_websocket.brokers.interface import PROBE_TOPIC, Entry, Record
from distributed_websocket.exceptions import BrokerError
from distributed_websocket.reading import ShardReader
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.faulty_broker import FaultyBroker

SOON = 0.05
"""How long an answer may take in the tests of a silence. In all others a busy machine must not make one."""


class Heard:
    """What a reader handed over, and how often it said that entries were lost."""

    def __init__(self) -> None:
        self.numbers: list[bytes] = []
        self.lost = 0
        self.failure: Exception | None = None

    def batch(self, entries: Sequence[Entry]) -> None:
        if self.failure is not None:
            raise self.failure
        self.numbers += [entry.body for entry in entries]

    def hole(self, reader: ShardReader) -> None:
        self.lost += 1


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once() -> Iterator[float]:
        while True:
            yield 0.001

    monkeypatch.setattr(reading, "delays", at_once)


Start = Callable[..., ShardReader]


@pytest.fixture
async def start(broker: FaultyBroker, heard: Heard) -> AsyncIterator[Start]:
    async with contextlib.AsyncExitStack() as stack:

        def start_one(probe_seconds: float | None = SOON, answer_seconds: float = SOON) -> ShardReader:
            async def publish(record: Record, shard: int) -> str:
                return (await broker.append("channel", shard, [record]))[0]

            reader = ShardReader(
                broker,
                "channel",
                0,
                on_batch=heard.batch,
                on_lost=heard.hole,
                publish=publish,
                probe_seconds=probe_seconds,
                answer_seconds=answer_seconds,
            )
            stack.push_async_callback(reader.stop)
            reader.start()
            return reader

        yield start_one


async def publish(broker: FaultyBroker, *numbers: int) -> str:
    return (await broker.append("channel", 0, [Record("room/1", b"%d" % number) for number in numbers]))[-1]


async def test_a_reader_hands_over_what_is_new_since_it_began(start: Start, broker: FaultyBroker, heard: Heard) -> None:
    before = await publish(broker, 1)
    reader = start(answer_seconds=DEADLINE_SECONDS)
    assert reader.deaf_reason == "the log was not heard yet"
    await reader.opened()
    assert reader.position == before
    last = await publish(broker, 2, 3)
    await eventually(lambda: reader.position == last)
    assert heard.numbers == [b"2", b"3"]
    assert reader.deaf_reason is None
    assert [entry.body for entry in reader.tail.behind("room/1", before) or ()] == [b"2", b"3"]
    assert await reader.page(before, last, limit=1) == (await broker.range("channel", 0, before, last, limit=1))


async def test_a_silent_log_is_probed_and_stays_heard_and_the_probes_are_handed_to_nobody(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    reader = start(probe_seconds=0.01, answer_seconds=DEADLINE_SECONDS)
    await eventually(lambda: sum(batch[0].topic == PROBE_TOPIC for batch in broker.appends) >= 4)
    assert reader.deaf_reason is None
    assert (heard.numbers, len(reader.tail)) == ([], 0)


async def test_without_a_probe_a_silent_log_is_left_in_peace(start: Start, broker: FaultyBroker) -> None:
    reader = start(probe_seconds=None, answer_seconds=DEADLINE_SECONDS)
    await eventually(lambda: reader.deaf_reason is None)
    reads = broker.reads
    await publish(broker, 1)
    await eventually(lambda: broker.reads > reads)
    assert len([batch for batch in broker.appends if batch[0].topic == PROBE_TOPIC]) == 1


async def test_without_a_probe_a_log_that_was_never_heard_is_not_ready_and_not_given_up(
    start: Start, broker: FaultyBroker
) -> None:
    broker.deaf = True
    reader = start(probe_seconds=None)
    await eventually(lambda: broker.reads >= 3)
    assert (broker.extents, reader.deaf_reason) == (1, "the log was not heard yet")
    broker.heal()
    await publish(broker, 1)
    await eventually(lambda: reader.deaf_reason is None)


async def test_with_the_probe_a_deaf_reader_notices_and_heals_with_nothing_lost(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    reader = start()
    await eventually(lambda: reader.deaf_reason is None)
    broker.deaf = True
    await publish(broker, 1, 2)
    await eventually(lambda: reader.deaf_reason is not None)
    assert "was not heard within" in str(reader.deaf_reason)
    broker.deaf = False
    await eventually(lambda: reader.deaf_reason is None)
    await eventually(lambda: heard.numbers == [b"1", b"2"])
    assert heard.lost == 0


async def test_a_reader_that_was_deaf_uses_new_connections(
    start: Start, broker: FaultyBroker, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one may lead to a primary that stepped down: it answers for ever, and nothing new comes."""

    async def reconnect() -> None:
        broker.deaf = False

    monkeypatch.setattr(broker, "reconnect", reconnect)
    reader = start()
    await eventually(lambda: reader.deaf_reason is None)
    broker.deaf = True
    await publish(broker, 1)
    await eventually(lambda: heard.numbers == [b"1"])


async def test_with_the_probe_off_the_same_fault_goes_unnoticed(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    reader = start(probe_seconds=None, answer_seconds=0.01)
    await eventually(lambda: reader.deaf_reason is None)
    broker.deaf = True
    await publish(broker, 1)
    reads = broker.reads
    for _ in range(20):
        await publish(broker, 1)
        await asyncio.sleep(0.01)  # all together twenty times as long as an answer may take
    assert reader.deaf_reason is None
    assert broker.reads - reads <= 1
    assert heard.numbers == []


async def test_a_probe_that_cannot_be_published_makes_the_reader_not_ready(start: Start, broker: FaultyBroker) -> None:
    reader = start()
    await eventually(lambda: reader.deaf_reason is None)
    broker.fail("append", BrokerError("read only"))
    await eventually(lambda: reader.deaf_reason == "the probe could not be published: read only")
    broker.heal()
    await eventually(lambda: reader.deaf_reason is None)


async def test_a_probe_that_is_never_stored_makes_the_reader_not_ready(start: Start, broker: FaultyBroker) -> None:
    reader = start()
    await eventually(lambda: reader.deaf_reason is None)
    broker.hanging.add("append")
    await eventually(lambda: "was not stored within" in str(reader.deaf_reason))


@pytest.mark.parametrize("method", ["read", "extent"])
@pytest.mark.parametrize("fault", ["fails", "hangs", "fails strangely"])
async def test_a_reader_goes_on_where_it_was_after_a_fault(
    start: Start, broker: FaultyBroker, heard: Heard, method: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    reader = start()
    await eventually(lambda: reader.epoch)  # it was opened
    await publish(broker, 1)
    await eventually(lambda: heard.numbers == [b"1"])
    if fault == "hangs":
        broker.hanging.add(method)
    else:
        broker.fail("read", BrokerError("gone") if fault == "fails" else RuntimeError("strange"))
        broker.failing.add(method)
    await publish(broker, 2)
    await eventually(lambda: reader.deaf_reason is not None)
    await publish(broker, 3)
    broker.heal()
    await eventually(lambda: heard.numbers == [b"1", b"2", b"3"])
    await eventually(lambda: reader.deaf_reason is None)
    assert heard.lost == 0
    strange = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bool(strange) == (fault == "fails strangely")


async def test_a_log_that_cannot_be_reached_says_so_to_whoever_waits_for_its_position(
    start: Start, broker: FaultyBroker
) -> None:
    broker.fail("extent", BrokerError("no route"))
    reader = start()
    with pytest.raises(BrokerError, match="cannot be read now: no route"):
        await reader.opened()
    broker.heal()
    await eventually(lambda: reader.epoch)
    await reader.opened()


async def test_several_may_wait_until_the_same_position_was_handed_over(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    reader = start(answer_seconds=DEADLINE_SECONDS)
    await reader.opened()
    waiting = [asyncio.create_task(reader.reached("1-0")) for _ in range(3)]
    waiting.append(asyncio.create_task(reader.reached(f"{2**60}-0")))
    await asyncio.sleep(0)  # one step of each: they wait
    await publish(broker, 1)
    await asyncio.wait_for(asyncio.gather(*waiting[:3]), DEADLINE_SECONDS)
    assert heard.numbers == [b"1"]
    assert not waiting[3].done()
    waiting[3].cancel()


async def test_a_batch_that_could_not_be_handed_over_comes_again(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    reader = start()
    await eventually(lambda: reader.deaf_reason is None)
    heard.failure = RuntimeError("on_batch failed")
    await publish(broker, 1)
    await eventually(lambda: "on_batch failed" in str(reader.deaf_reason))
    heard.failure = None
    await eventually(lambda: heard.numbers == [b"1"])


async def test_a_flushed_log_is_noticed_while_it_is_silent_and_said_to_be_lost(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    reader = start(probe_seconds=0.01)
    await eventually(lambda: reader.deaf_reason is None)
    await publish(broker, 1)
    epoch = reader.epoch
    await eventually(lambda: heard.numbers)
    broker.flush()
    await eventually(lambda: heard.lost == 1)
    assert (reader.epoch != epoch, reader.position, len(reader.tail)) == (True, "0-0", 0)
    await publish(broker, 2)
    await eventually(lambda: heard.numbers == [b"1", b"2"])
    assert heard.lost == 1


async def test_a_flushed_log_is_noticed_while_it_is_busy(start: Start, broker: FaultyBroker, heard: Heard) -> None:
    reader = start(probe_seconds=0.02)
    await eventually(lambda: reader.deaf_reason is None)
    broker.flush()
    number = 0
    while not heard.lost:
        number += 1
        assert number < 5_000, "not noticed"
        await publish(broker, number)
        await asyncio.sleep(0.001)
    assert heard.lost == 1


async def test_entries_that_are_trimmed_after_they_were_read_are_nobodys_loss(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    broker._log("channel", 0).entries = deque(maxlen=3)
    reader = start(probe_seconds=0.01)
    await eventually(lambda: reader.deaf_reason is None)
    for number in range(20):
        last = await publish(broker, number)
        await reader.reached(last)
    extents = broker.extents
    await eventually(lambda: broker.extents >= extents + 2)
    assert (heard.lost, len(heard.numbers)) == (0, 20)


async def test_entries_that_were_trimmed_before_they_were_read_are_said_to_be_lost(
    broker: FaultyBroker, heard: Heard
) -> None:
    small = FaultyBroker(retention_messages=3)

    async def nothing(record: Record, shard: int) -> str:
        return (await small.append("channel", shard, [record]))[0]

    reader = ShardReader(
        small,
        "channel",
        0,
        on_batch=heard.batch,
        on_lost=heard.hole,
        publish=nothing,
        probe_seconds=SOON,
        answer_seconds=SOON,
    )
    reader.start()
    await eventually(lambda: reader.deaf_reason is None)
    small.fail("read", BrokerError("cut off"))
    await publish(small, 0)
    await eventually(lambda: reader.deaf_reason is not None)
    await publish(small, *range(1, 10))
    small.heal()
    await eventually(lambda: heard.lost == 1)
    await publish(small, 10)
    await eventually(lambda: heard.numbers[-1:] == [b"10"])
    await reader.stop()


async def test_what_is_not_kept_is_heard_by_who_listens_and_moves_nothing(
    start: Start, broker: FaultyBroker, heard: Heard
) -> None:
    reader = start(answer_seconds=DEADLINE_SECONDS)  # one that is between two reads would not hear it
    await eventually(lambda: reader.deaf_reason is None)
    await broker.append("channel", 0, [Record("room/1", b"typing", ephemeral=True)])
    await eventually(lambda: heard.numbers == [b"typing"])
    assert (reader.position, len(reader.tail)) == ("0-0", 0)
    await broker.append("channel", 0, [Record("room/1", b"typing", ephemeral=True), Record("room/1", b"1")])
    await eventually(lambda: heard.numbers == [b"typing", b"1", b"typing"])
    assert len(reader.tail) == 1


async def test_connections_that_cannot_be_closed_do_not_keep_a_reader_from_new_ones(
    start: Start, broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse() -> None:
        raise RuntimeError("stuck")

    monkeypatch.setattr(broker, "reconnect", refuse)
    broker.fail("extent", BrokerError("down"))
    reader = start()
    await eventually(lambda: reader.deaf_reason == "down")
    await eventually(lambda: "could not be closed" in caplog.text)
    broker.heal()
    await eventually(lambda: reader.deaf_reason is None)


async def test_a_reader_that_was_never_started_may_be_stopped(broker: FaultyBroker, heard: Heard) -> None:
    async def publish(record: Record, shard: int) -> str:
        return ""

    await ShardReader(
        broker,
        "channel",
        0,
        on_batch=heard.batch,
        on_lost=heard.hole,
        publish=publish,
        probe_seconds=None,
        answer_seconds=1,
    ).stop()


async def test_a_reader_that_is_stopped_leaves_no_task(start: Start) -> None:
    before = len(asyncio.all_tasks())
    reader = start(answer_seconds=DEADLINE_SECONDS)
    await reader.opened()
    await reader.stop()
    await eventually(lambda: len(asyncio.all_tasks()) == before)
