"""Moments in the life of a `Client` that no network hits on purpose; the rest is tried on real workers."""

import asyncio

from distributed_websocket.client import Client, ConnectionEnded, State
from distributed_websocket.client.events import Answered, Subscribed


async def test_an_answer_that_came_just_before_the_end_is_an_answer() -> None:
    client = Client("ws://127.0.0.1:1/ws")
    sending = asyncio.create_task(client.send("room/1", "hello"))
    subscribing = asyncio.create_task(client.subscribe("room/2"))
    unanswered = asyncio.create_task(client.presence("room/1"))
    await asyncio.sleep(0)
    client._handle(Answered(next(iter(client._answers)), {"type": "ack", "id": "1-0"}))
    client._handle(Subscribed("room/2"))
    await client.close()
    assert await sending == "1-0"
    assert [message async for message in await subscribing] == []
    (ended,) = await asyncio.gather(unanswered, return_exceptions=True)
    assert isinstance(ended, ConnectionEnded)


async def test_a_client_that_is_closed_twice_says_so_once() -> None:
    states: list[State] = []
    client = Client("ws://127.0.0.1:1/ws", on_state=states.append)
    await client.close()
    await client.close()
    assert states == [State.CLOSED]
