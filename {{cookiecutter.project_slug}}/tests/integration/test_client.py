"""The client on asyncio, against real workers behind a network that fails.

The client in JavaScript passes the same tests, by the same names: tests/web/client.test.mjs.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from distributed_websocket.backoff import delays
from distributed_websocket.client import Client, ConnectionEnded, RequestRefused, State, Stream
from distributed_websocket.codes import ErrorCode
from distributed_websocket.exceptions import InvalidToken
from tests.client_stage import UNLOGGED, Stage, stage, until

IN_TIME_SECONDS = 10


def client_of(it: Stage, **options: Any) -> Client:
    """A client of this stage that does not wait long before it comes back."""
    return Client(it.url, **{"token": it.token(), "backoff": soon, **options})


def soon() -> Iterator[float]:
    return delays(0.005, 0.05)


async def take(messages: Stream | Client, number: int) -> list[Any]:
    """The data of the next messages."""
    async with asyncio.timeout(IN_TIME_SECONDS):
        return [(await anext(messages))["data"] for _ in range(number)]


async def test_each_message_comes_once_and_in_order_over_random_cuts() -> None:
    chance = random.Random(5)
    async with stage() as it, client_of(it) as client, client_of(it, token=it.token(user="bob")) as sender:
        room = await client.subscribe("room/1")

        async def cut() -> None:
            cuts = 0
            while cuts < 20 or it.accepted() <= 20:  # a cut that meets no connection counts for nothing
                await asyncio.sleep(chance.uniform(0.02, 0.06))  # at any moment: the moments are what is tried
                it.cut()
                cuts += 1

        async def send() -> None:
            for number in range(200):
                await sender.send("room/1", f"sent {number}")

        cutting, sending = asyncio.create_task(cut()), asyncio.create_task(send())
        await it.publish_slowly("room/1", [f"published {number}" for number in range(1_800)], seconds=0.8)
        received = await take(room, 2_000)
        await asyncio.gather(cutting, sending)
        assert received == await it.stored("room/1")
        assert [data for data in received if data.startswith("sent")] == [f"sent {number}" for number in range(200)]
        assert it.accepted() > 20


async def test_a_cut_in_the_middle_of_what_was_missed_loses_nothing() -> None:
    async with stage() as it, client_of(it) as client:
        room = await client.subscribe("room/1")
        it.down()
        await it.publish("room/1", [f"{number:>500}" for number in range(2_000)])
        it.up()
        received = await take(room, 1)
        for _ in range(3):
            it.cut()
            received += await take(room, 200)
        received += await take(room, 2_000 - len(received))
        assert [int(data) for data in received] == list(range(2_000))


async def test_overlapping_subscriptions_get_every_message_once_each_over_cuts() -> None:
    chance = random.Random(6)
    async with stage() as it, client_of(it) as client:
        one, all_rooms = await client.subscribe("room/1"), await client.subscribe("room/+")
        taking = asyncio.gather(take(one, 200), take(all_rooms, 400))
        for start in range(0, 200, 20):
            await it.publish_in_turn(["room/1", "room/2"], list(range(start, start + 20)))
            if start % 40 == 0:
                it.cut()
            await asyncio.sleep(chance.uniform(0, 0.05))  # what comes next comes at any moment of the return
        of_one, of_all = await taking
        assert of_one == list(range(200))
        assert of_all == [number for number in range(200) for _ in range(2)]


async def test_a_send_whose_ack_was_lost_is_stored_once() -> None:
    async with stage() as it, client_of(it) as client:
        await client.subscribe("room/1")
        it.lose_answers()
        sending = asyncio.gather(*(client.send("room/1", number) for number in range(3)))
        await it.until_stored("room/1", [0, 1, 2])
        assert not sending.done()
        it.cut()
        positions = await asyncio.wait_for(sending, IN_TIME_SECONDS)
        assert await it.stored("room/1") == [0, 1, 2]
        assert positions == [message["id"] for message in (await client.history("room/1")).messages]


async def test_what_is_sent_while_there_is_no_connection_arrives_in_order() -> None:
    async with stage() as it, client_of(it) as client:
        it.down()
        await until(lambda: client.state is State.RECONNECTING)
        sending = asyncio.gather(*(client.send("room/1", number) for number in range(50)))
        await asyncio.sleep(0)  # one step of each: all fifty are asked for while there is no connection
        it.up()
        await asyncio.wait_for(sending, IN_TIME_SECONDS)
        assert await it.stored("room/1") == list(range(50))


async def test_a_drain_notice_moves_the_client_within_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage() as it, client_of(it) as client:
        room = await client.subscribe("room/1")
        (before,) = it.connected_to()
        monkeypatch.setattr(random, "uniform", lambda a, b: a + (b - a) / 100)
        it.drain(["chat-1", "chat-2"].index(before), 60)
        await it.publish("room/1", list(range(10)))
        await until(lambda: it.connected_to() not in ([], [before]), "moved to the other worker")
        await it.publish("room/1", list(range(10, 20)))
        assert await take(room, 20) == list(range(20))
        assert client.welcome["worker"] != before


async def test_a_close_code_that_forbids_to_come_back_ends_the_client_and_says_why() -> None:
    for code, reason in ((1008, "not allowed"), (4500, "too many connections of this user")):
        async with stage() as it, client_of(it) as client:
            room = await client.subscribe("room/1")
            await it.publish("room/1", ["the last one"])
            assert await take(room, 1) == ["the last one"]
            it.close(code)
            with pytest.raises(ConnectionEnded, match=f"{code} {reason}") as ended:
                await take(room, 1)
            assert ended.value.close_code == code
            assert client.state is State.CLOSED
            with pytest.raises(ConnectionEnded, match=reason):
                await client.send("room/1", "too late")
            assert it.accepted() == 1


async def test_a_close_code_that_allows_to_come_back_costs_nothing() -> None:
    async with stage() as it, client_of(it) as client:
        room = await client.subscribe("room/1")
        for number, code in enumerate((1012, 1013, 4001, 1011)):
            it.close(code)
            await it.publish("room/1", [number])
            assert await take(room, 1) == [number]
        assert it.accepted() == 5


async def test_an_expired_token_is_replaced_on_the_open_connection() -> None:
    async with stage() as it:
        lifetimes = [3, 600]  # the first one is good for two seconds at least, and the handshake needs it
        async with client_of(it, token=tokens(lambda: it.token(lifetimes.pop(0)))) as client:
            conn_id = client.welcome["conn_id"]
            await until(lambda: lifetimes == [], "a second token was asked for")
            await asyncio.sleep(0.8)  # longer than the grace period, which began before the second was asked for
            await client.send("room/1", "still here")
            assert client.welcome["conn_id"] == conn_id
            assert it.accepted() == 1


async def test_without_a_fresh_token_on_the_open_connection_the_next_handshake_asks_again() -> None:
    async with stage() as it:
        given: list[str] = []

        def give() -> str:
            given.append("")
            if len(given) == 2:
                raise OSError("the source of tokens has a bad moment")
            return it.token(3 if len(given) == 1 else 600)

        async with client_of(it, token=tokens(give)) as client:
            await until(lambda: len(given) == 3 and client.state is State.OPEN, "a third token, and open")
            await client.send("room/1", "back")
            assert it.accepted() == 2


async def test_a_handshake_refused_for_its_token_is_tried_again_with_a_fresh_one() -> None:
    async with stage() as it:
        lifetimes = iter((-10, 600))
        async with client_of(it, token=tokens(lambda: it.token(next(lifetimes)))) as client:
            assert client.welcome["user"] == "alice"
        assert it.accepted() == 2


async def test_a_source_of_tokens_that_gives_up_ends_the_client() -> None:
    def give() -> str:
        raise InvalidToken("signed out")

    async with stage() as it:
        client = client_of(it, token=tokens(give))
        with pytest.raises(ConnectionEnded, match="signed out"):
            await client.connect()
        assert it.accepted() == 0


async def test_a_hole_is_told_with_its_topic_where_it_is() -> None:
    told: list[str] = []
    async with stage(retention_messages=50) as it, client_of(it, on_hole=told.append) as client:
        room, quiet = await client.subscribe("room/1"), await client.subscribe("other/1")
        await it.publish("room/1", ["before"])
        await until(lambda: len(room) == 1)
        it.down()
        await it.until_gone()
        await it.publish("room/1", list(range(60)))
        it.up()
        await until(lambda: len(it.topics()) == 2, "subscribed again")
        await it.publish("room/1", ["after"])
        assert await take(room, 1) == ["before"]
        assert told == []
        assert await take(room, 1) == ["after"]
        assert told == ["room/1"]
        await it.publish("other/1", ["of the other shard"])
        assert await take(quiet, 1) == ["of the other shard"]
        assert told == ["room/1"]


async def test_a_log_that_is_lost_is_told_while_connected() -> None:
    told: list[str] = []
    async with stage() as it, client_of(it, on_hole=told.append) as client:
        await it.publish("room/1", list(range(5)))
        room = await client.subscribe("room/1")
        taking = asyncio.create_task(take(room, 2))
        it.lose_log()
        await until(lambda: told == ["room/1"], "a hole")
        await it.publish("room/1", ["new 1"])
        assert it.accepted() == 1
        it.cut()
        await it.publish("room/1", ["new 2"])
        assert await taking == ["new 1", "new 2"]
        assert told == ["room/1"]


async def test_a_pattern_over_all_shards_does_not_resume_and_says_so() -> None:
    told: list[str] = []
    async with stage() as it, client_of(it, on_hole=told.append) as client:
        news = await client.subscribe("+/news")
        await it.publish_in_turn([f"{number}/news" for number in range(10)], ["x"])
        assert await take(news, 10) == ["x"] * 10
        taking = asyncio.create_task(take(news, 10))
        it.cut()
        await until(lambda: told == ["+/news"], "a hole")
        await it.publish_in_turn([f"{number}/news" for number in range(10)], ["x"])
        assert await taking == ["x"] * 10
        assert told == ["+/news"]


async def test_a_service_that_stores_nothing_says_so_after_each_cut() -> None:
    told: list[str] = []
    async with stage() as it:
        it.lead_to(UNLOGGED)
        async with client_of(it, on_hole=told.append) as client:
            room = await client.subscribe("room/1")
            assert await client.send("room/1", "first") is None
            assert await take(room, 1) == ["first"]
            taking = asyncio.create_task(take(room, 1))
            it.cut()
            await until(lambda: told == ["room/1"], "a hole")
            await client.send("room/1", "second")
            assert await taking == ["second"]
            with pytest.raises(RequestRefused, match="stores no messages"):
                await client.history("room/1")


async def test_what_is_refused_for_now_is_asked_for_again() -> None:
    async with stage() as it, client_of(it) as client:
        it.busy(3)
        room = await client.subscribe("room/1")
        it.busy(3)
        await asyncio.gather(*(client.send("room/1", number) for number in range(10)))
        assert it.still_busy() == 0
        assert sorted(await take(room, 10)) == list(range(10))


async def test_a_rate_limit_slows_a_sender_and_loses_nothing() -> None:
    async with stage(messages_per_second=200) as it, client_of(it) as client:
        async with asyncio.timeout(IN_TIME_SECONDS):
            await asyncio.gather(*(client.send("room/1", number) for number in range(300)))
        assert sorted(await it.stored("room/1")) == list(range(300))


async def test_what_is_forbidden_is_raised() -> None:
    async with stage() as it, client_of(it) as client:
        for request, code in (
            (client.subscribe("forbidden/1"), ErrorCode.NOT_ALLOWED),
            (client.subscribe("not a#pattern"), ErrorCode.INVALID_TOPIC),
            (client.send("forbidden/1", "x"), ErrorCode.NOT_ALLOWED),
            (client.send("a/+", "x"), ErrorCode.INVALID_TOPIC),
            (client.history("room/1", limit=0), ErrorCode.INVALID_MESSAGE),
            (client.presence("forbidden/1"), ErrorCode.NOT_ALLOWED),
        ):
            with pytest.raises(RequestRefused) as refusal:
                await request
            assert refusal.value.code is code
        it.forbid("nothing")
        await client.subscribe("forbidden/1")  # a subscription that was refused may be tried again
        with pytest.raises(ValueError, match="forbidden/1"):
            await client.subscribe("forbidden/1")


async def test_a_subscription_that_is_refused_on_return_ends_by_that() -> None:
    async with stage() as it, client_of(it) as client:
        room, other = await client.subscribe("room/1"), await client.subscribe("other/1")
        it.forbid("room/")
        it.cut()
        with pytest.raises(RequestRefused, match="not_allowed"):
            await take(room, 1)
        await it.publish("other/1", ["goes on"])
        assert await take(other, 1) == ["goes on"]


async def test_history_and_presence_are_answered() -> None:
    async with stage() as it, client_of(it) as client:
        positions = await it.publish("present/1", list(range(5)))
        page = await client.history("present/1", limit=2)
        assert ([message["data"] for message in page.messages], page.more) == ([3, 4], True)
        page = await client.history("present/1", limit=5, before=positions[3])
        assert ([message["data"] for message in page.messages], page.more) == ([0, 1, 2], False)
        room = await client.subscribe("present/1")
        joined = await asyncio.wait_for(anext(room), IN_TIME_SECONDS)
        assert (joined["type"], joined["user"]) == ("joined", "alice")
        present = await client.presence("present/1")
        assert ([member["user"] for member in present.members], present.total) == (["alice"], 1)


async def test_what_is_ephemeral_reaches_who_is_there_and_is_not_stored() -> None:
    async with stage() as it, client_of(it) as client, client_of(it, token=it.token(user="bob")) as other:
        room = await other.subscribe("room/1")
        client.send_ephemeral("room/1", "typing")
        assert await take(room, 1) == ["typing"]
        it.down()
        await until(lambda: client.state is State.RECONNECTING)
        client.send_ephemeral("room/1", "lost")
        it.up()
        await asyncio.wait_for(client.send("room/1", "said"), IN_TIME_SECONDS)
        assert await take(room, 1) == ["said"]
        assert await it.stored("room/1") == ["said"]


async def test_a_slow_caller_is_not_flooded_and_misses_nothing() -> None:
    async with stage() as it, client_of(it, max_waiting=100) as client:
        slow, quick = await client.subscribe("slow/1"), await client.subscribe("quick/1")
        for start in range(0, 1_000, 50):
            await it.publish("slow/1", list(range(start, start + 50)))
            await it.publish("quick/1", list(range(start, start + 50)))
            assert await take(quick, 50) == list(range(start, start + 50))
        await until(lambda: it.topics() == ["quick/1"], "the slow one is paused")
        assert len(slow) < 1_000
        await client.send("other/1", "who reads slowly may send all the same")
        it.cut()
        assert await take(slow, 1_000) == list(range(1_000))
        await until(lambda: it.topics() == ["quick/1", "slow/1"], "both live again")
        assert it.accepted() == 2


async def test_a_flood_that_cannot_be_stopped_in_time_costs_a_connection_and_no_message() -> None:
    async with stage() as it, client_of(it, max_waiting=10) as client:
        room = await client.subscribe("room/1")
        it.down()
        await it.publish("room/1", list(range(2_000)))
        it.up()
        await until(lambda: len(room) >= 100, "too many wait")
        await until(lambda: it.accepted() > 2 and client.state is State.OPEN, "the connection was given up")
        assert len(room) < 2_000
        assert await take(room, 2_000) == list(range(2_000))


async def test_a_dead_connection_is_noticed() -> None:
    async with stage() as it, client_of(it, heartbeat_seconds=1) as client:
        room = await client.subscribe("room/1")
        it.stall()
        await it.publish("room/1", ["missed"])
        assert await take(room, 1) == ["missed"]
        assert it.accepted() == 2


async def test_a_server_that_is_not_there_is_tried_until_it_is() -> None:
    states: list[State] = []
    async with stage() as it:
        it.down()
        client = client_of(it, on_state=states.append)
        assert client.state is State.CONNECTING
        connecting = asyncio.create_task(client.connect())
        await until(lambda: it.accepted() >= 3, "three tries")
        assert not connecting.done()
        assert states == []
        it.up()
        await asyncio.wait_for(connecting, IN_TIME_SECONDS)
        assert states == ["open"]
        await client.close()


async def test_the_states_are_told() -> None:
    states: list[State] = []
    async with stage() as it:
        async with client_of(it, on_state=states.append) as client:
            it.cut()
            await until(lambda: len(states) == 3)
            assert client.state is State.OPEN
        assert states == ["open", "reconnecting", "open", "closed"]


async def test_the_caller_is_told_when_it_has_caught_up() -> None:
    told: list[int] = []
    async with stage() as it, client_of(it, on_caught_up=told.append) as client:
        room, _ = await client.subscribe("room/1"), await client.subscribe("other/1")
        it.down()
        await it.publish("room/1", list(range(12)))
        await it.publish("other/1", ["x"])
        assert told == []
        it.up()
        await until(lambda: told != [])
        assert told == [13]
        assert len(room) == 12


async def test_all_messages_come_in_one_iteration_in_the_order_of_their_arrival() -> None:
    async with stage() as it, client_of(it) as client:
        await client.subscribe("room/1")
        await client.subscribe("other/1")
        for number in range(5):
            await client.send("room/1", f"room {number}")
            await client.send("other/1", f"other {number}")
        it.broadcast("to everybody")
        expected = [f"{topic} {number}" for number in range(5) for topic in ("room", "other")]
        assert await take(client, 11) == [*expected, "to everybody"]


async def test_unsubscribing_ends_the_iteration() -> None:
    async with stage() as it, client_of(it) as client:
        room = await client.subscribe("room/1")
        await it.publish("room/1", ["one"])
        await until(lambda: len(room) == 1)
        client.unsubscribe("room/1")
        client.unsubscribe("room/1")  # of nothing, which is no fault
        assert [message["data"] async for message in room] == ["one"]
        await until(lambda: it.topics() == [])
        room = await client.subscribe("room/1")
        await it.publish("room/1", ["two"])
        assert await take(room, 1) == ["two"]


async def test_a_server_that_speaks_something_else_ends_the_client() -> None:
    async with stage() as it, client_of(it) as client:
        room = await client.subscribe("room/1")
        it.send_text('{"topic": "room/1", "id": "not a position"}')
        with pytest.raises(ConnectionEnded, match="does not speak the protocol"):
            await take(room, 1)


async def test_a_closed_client_leaves_nothing_behind() -> None:
    async with stage() as it:
        before = asyncio.all_tasks()
        async with client_of(it) as client:
            room = await client.subscribe("room/1")
            await it.publish("room/1", ["one"])
            await until(lambda: len(room) == 1)
            it.lose_answers()
            sending = asyncio.create_task(client.send("room/1", "no answer"))
            await asyncio.sleep(0)  # its first step: it has asked, and waits for the answer
        with pytest.raises(ConnectionEnded, match="closed"):
            await sending
        with pytest.raises(ConnectionEnded, match="closed"):
            await client.subscribe("room/2")
        assert [message["data"] async for message in room] == ["one"]
        assert client.state is State.CLOSED
        it.cut()
        await it.until_gone()
        await until(lambda: asyncio.all_tasks() <= before, "no task is left")
        await client.close()


def tokens(give: Callable[[], str]) -> Callable[[], Awaitable[str]]:
    async def source() -> str:
        return give()

    return source
