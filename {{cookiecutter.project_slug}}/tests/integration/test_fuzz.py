"""Ten thousand hostile frames over real sockets, beside a neighbour who must not notice."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from distributed_websocket import InMemoryBroker, Limits, WebSocketManager
from tests.workers import ASGI, PROTOCOLS, Client, Worker, connected, working

FRAMES_AT_ONCE = 100
EXAMPLES = 50
"""For each of the two protocols: 10,000 frames in all."""

# Invalid UTF-8 ends a connection by RFC 6455 §8.1, a message beyond the server's limit by §7.4.1. Nothing else may.
DOCUMENTED_ENDINGS = (1007, 1009)

MANAGERS_OWN = [name for name in dir(WebSocketManager) if callable(getattr(WebSocketManager, name))]
TYPES = ["subscribe", "unsubscribe", "send", "broadcast", "send_by_conn_id", "history", "presence", "authenticate"]

texts = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
TOPICS = ["room/healthy", "x" * 10_000, "", "/", "#", "+/+", "a#", "a/+b", "$SYS/x", "\0", "é" * 200, "a/b/c" * 40]


def a_topic(number: int) -> str:
    return TOPICS[number]


topics = st.integers(0, len(TOPICS) - 1).map(a_topic)  # hypothesis prints what it samples from
messages = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES) | st.sampled_from(MANAGERS_OWN) | scalars},
    optional={
        "topic": topics | values,
        "data": values,
        "ref": values,
        "since": values | st.fixed_dictionaries({"position": scalars, "epoch": scalars}),
        "conn_id": values,
        "id": scalars,
        "from": scalars,
        "limit": scalars,
        "before": scalars,
        "token": values,
    },
)
json_texts = messages.map(lambda fields: json.dumps(fields).encode())  # NaN and integers of any size too
BROKEN = [
    b"",
    b"null",
    b"[]",
    b'"send"',
    b"{",
    b'{"type":"send","topic":"room/healthy","data":1e999}',
    b'{"type":"send","topic":"room/healthy","data":NaN}',
    b'{"type":"send","topic":"room/healthy","data":' + b"9" * 400 + b"}",
    b'{"type":"send","topic":"room/healthy","data":"\\ud800"}',
    b'{"type":"send","topic":"\\ud800"}',
    b'{"type":"send","type":"broadcast","topic":"room/healthy"}',
    b"[" * 3_000 + b"]" * 3_000,
    b'{"a":' * 1_500 + b"1" + b"}" * 1_500,
    b'{"type":"send","topic":"room/healthy","data":' + b"[" * 500 + b"]" * 500 + b"}",
    b'{"type":"subscribe","topic":"room/healthy","since":{"position":"9999999999999-0","epoch":"x"}}',
    b'{"type":"subscribe","topic":"room/healthy","since":{"position":"-","epoch":"x"}}',
    b'{"type":"send","topic":"room/healthy","data":"' + b"x" * 70_000 + b'"}',
    b"\xff\xfe",
    b'{"type":"\xc3\x28"}',
]


def a_broken_text(number: int) -> bytes:
    return BROKEN[number]


broken_texts = st.integers(0, len(BROKEN) - 1).map(a_broken_text)
frames = st.tuples(st.just(True), json_texts | broken_texts | texts.map(lambda text: text.encode("utf-8", "ignore")))
binary_frames = st.tuples(st.just(False), st.binary(max_size=20) | json_texts)


def test_the_strategies_reach_what_they_are_meant_to() -> None:
    """A fuzzer that sends only what is refused at the door tests the door."""
    assert {"shutdown", "drain", "close_connection", "_deliver"} <= set(MANAGERS_OWN)


@dataclass
class Scene:
    loop: asyncio.AbstractEventLoop
    worker: Worker
    neighbour: Client
    endings: set[int | None]
    said: int = 0


@pytest.fixture(params=PROTOCOLS, ids=["asgi", "raw"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    async def build(stack: AsyncExitStack) -> tuple[Worker, Client]:
        limits = Limits(messages_per_second=None, subscriptions=10)
        manager = WebSocketManager("fuzz", broker=InMemoryBroker(), limits=limits)
        worker = await stack.enter_async_context(working(manager, request.param, ws_max_size=100_000))
        neighbour = await stack.enter_async_context(connected(worker.url, "neighbour"))
        await neighbour.subscribe("room/healthy")
        return worker, neighbour

    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        worker, neighbour = runner.run(build(stack))
        # uvicorn's own protocol closes TCP right behind its close frame, which the client then may not get to see.
        endings: set[int | None] = {*DOCUMENTED_ENDINGS, None} if request.param == ASGI else set(DOCUMENTED_ENDINGS)
        yield Scene(runner.get_loop(), worker, neighbour, endings)
        runner.run(stack.aclose())


async def attack(scene: Scene, hostile: list[tuple[bool, bytes]]) -> None:
    """Send the frames, on a new connection where one was ended; the last one still open must answer."""
    waiting = list(hostile)
    endings: list[int | None] = []
    while waiting:
        async with connected(scene.worker.url, "attacker") as attacker:
            try:
                while waiting:
                    as_text, frame = waiting.pop(0)
                    await attacker.socket.send(frame, text=as_text)
                await attacker.nothing_more()
            except ConnectionClosed as closed:
                endings.append(None if closed.rcvd is None else closed.rcvd.code)
    assert set(endings) <= scene.endings


async def neighbour_misses_nothing(scene: Scene) -> None:
    scene.said += 1
    await scene.neighbour.publish("room/healthy", {"marker": scene.said})
    while len(heard := markers(scene.neighbour)) < scene.said:
        await scene.neighbour.receive()
    assert heard == list(range(1, scene.said + 1))


def markers(neighbour: Client) -> list[int]:
    return [message["data"]["marker"] for message in neighbour.deliveries() if message["from"] == "neighbour"]


@pytest.mark.timeout(400)  # half a minute where the machine is free
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # a hundred frames are large
def test_hostile_frames_harm_neither_their_sender_nor_its_neighbour(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],  # a failing hundred is short enough to read; shrinking it would take minutes
        print_blob=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    @given(st.lists(frames | frames | frames | binary_frames, min_size=FRAMES_AT_ONCE, max_size=FRAMES_AT_ONCE))
    def run(hostile: list[tuple[bool, bytes]]) -> None:
        scene.loop.run_until_complete(attack(scene, hostile))
        scene.loop.run_until_complete(neighbour_misses_nothing(scene))

    with caplog.at_level(logging.ERROR):
        run()
    ours = [record for record in caplog.records if not record.name.startswith("uvicorn")]  # it logs invalid UTF-8
    assert [record.getMessage() for record in ours if record.levelno >= logging.ERROR] == []
    assert scene.said >= EXAMPLES
    assert scene.worker.manager.not_ready_reason is None
