"""What only the client on asyncio can do: see the status of a refused handshake, be cancelled, be called back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from distributed_websocket.backoff import delays
from distributed_websocket.client import Client, ConnectionEnded, State, may_repeat_handshake
from tests.client_stage import DEADLINE_SECONDS, stage, until


def soon() -> Iterator[float]:
    return delays(0.005, 0.05)


@contextlib.asynccontextmanager
async def answering(*statuses: int) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that refuses handshakes with these statuses, and welcomes whoever comes then. What it was offered."""
    offered: list[str] = []

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        offered.append(request.headers.get("Authorization", ""))
        if len(offered) <= len(statuses):
            return connection.respond(HTTPStatus(statuses[len(offered) - 1]), "because")
        return None

    async def welcome(connection: ServerConnection) -> None:
        await connection.send('{"type":"welcome","worker":"chat-1"}')
        await connection.wait_closed()

    async with serve(welcome, "127.0.0.1", 0, process_request=refuse) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", offered


async def fresh() -> str:
    return "fresh"


async def test_a_handshake_refused_for_a_while_is_tried_again() -> None:
    async with answering(503, 429, 502, 408) as (url, offered), Client(url, backoff=soon) as client:
        assert client.state is State.OPEN
        assert offered == [""] * 5


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_handshake_refused_for_good_ends_the_client(status: int) -> None:
    async with answering(status) as (url, offered):
        with pytest.raises(ConnectionEnded, match=f"{status}: because") as ended:
            await Client(url, backoff=soon).connect()
        assert ended.value.status == status
        assert len(offered) == 1


@pytest.mark.parametrize(("token", "handshakes"), [("the only one", 1), (fresh, 2)])
async def test_a_token_that_is_refused_ends_the_client_when_there_is_no_other(
    token: str | Callable[[], Awaitable[str]], handshakes: int
) -> None:
    async with answering(401, 401) as (url, offered):
        with pytest.raises(ConnectionEnded) as ended:
            await Client(url, token=token, backoff=soon).connect()
        assert ended.value.status == 401
        assert offered == [f"Bearer {token if isinstance(token, str) else 'fresh'}"] * handshakes


async def test_a_source_of_tokens_that_fails_is_asked_again() -> None:
    given = iter((OSError("no network"), KeyError("no token"), "at last"))

    async def give() -> str:
        token = next(given)
        if isinstance(token, Exception):
            raise token
        return token

    async with answering() as (url, offered), Client(url, token=give, backoff=soon):
        assert offered == ["Bearer at last"]


def test_which_statuses_are_worth_another_try() -> None:
    assert [status for status in (200, 401, 404, 408, 425, 429, 500, 503, 599) if may_repeat_handshake(status)] == [
        408,
        425,
        429,
        500,
        503,
        599,
    ]


async def test_a_send_that_nobody_waits_for_any_more_is_not_repeated() -> None:
    async with stage() as it, Client(it.url, token=it.token(), backoff=soon) as client:
        it.down()
        await until(lambda: client.state is State.RECONNECTING)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.send("room/1", "given up")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await client.subscribe("room/1")
        it.up()
        await client.send("room/1", "meant")
        assert await it.stored("room/1") == ["meant"]
        assert it.topics() == []


async def test_unsubscribing_ends_a_subscribe_that_is_under_way_and_not_the_next_one() -> None:
    async with stage() as it, Client(it.url, token=it.token(), backoff=soon) as client:
        it.down()
        await until(lambda: client.state is State.RECONNECTING)
        first = asyncio.create_task(client.subscribe("room/1"))
        await asyncio.sleep(0)
        client.unsubscribe("room/1")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert [message async for message in await first] == []
        given_up = asyncio.create_task(client.subscribe("room/1"))
        await asyncio.sleep(0)
        client.unsubscribe("room/1")
        meant = asyncio.create_task(client.subscribe("room/1"))
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        it.up()
        async with asyncio.timeout(DEADLINE_SECONDS):
            room = await meant
            await it.publish("room/1", ["one"])
            assert (await anext(room))["data"] == "one"


async def test_data_that_json_cannot_say_is_refused_at_once() -> None:
    async with stage() as it, Client(it.url, token=it.token()) as client:
        with pytest.raises(TypeError):
            await client.send("room/1", object())
        assert await client.send("room/1", "fine")


async def test_a_client_that_cannot_connect_in_time_leaves_nothing_behind() -> None:
    async with stage() as it:
        it.down()
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), Client(it.url, token=it.token(), backoff=soon):
                pytest.fail("connected to nothing")
        # The workers' own tasks come and go meanwhile.
        await until(lambda: asyncio.all_tasks() <= before, "no task of the client's")


async def test_a_callback_that_fails_ends_the_client_and_says_why() -> None:
    def fail(state: State) -> None:
        if state is State.OPEN:
            raise RuntimeError("a fault of the caller's")

    async with stage() as it:
        client = Client(it.url, token=it.token(), on_state=fail)
        await client.connect()
        with pytest.raises(ConnectionEnded, match="a fault of the caller's"):
            await client.send("room/1", "x")


async def test_a_single_token_that_expires_ends_the_client() -> None:
    async with stage() as it, Client(it.url, token=it.token(4), backoff=soon) as client:
        with pytest.raises(ConnectionEnded, match="expired") as ended:
            await asyncio.wait_for(anext(client), 10)
        assert ended.value.status == 401


async def test_the_iteration_of_all_messages_tells_holes_and_ends_with_the_client() -> None:
    told: list[str] = []
    async with stage() as it, Client(it.url, token=it.token(), on_hole=told.append, backoff=soon) as client:
        await client.subscribe("+/news")
        await it.publish("a/news", ["first"])
        assert (await anext(client))["data"] == "first"
        waiting = asyncio.create_task(anext(client, None))
        it.cut()
        await until(lambda: told == ["+/news"])
        await client.close()
        assert await asyncio.wait_for(waiting, 10) is None


async def test_a_client_that_was_never_connected_can_be_closed() -> None:
    client = Client("ws://127.0.0.1:9/")
    await client.close()
    with pytest.raises(ConnectionEnded):
        await client.send("room/1", "x")


async def test_the_waits_start_anew_only_after_a_connection_that_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counting() -> Iterator[float]:
        for number in range(1_000):
            asked.append(number)
            yield 0.001

    monkeypatch.setattr("distributed_websocket.client.link.LASTING_SECONDS", 3600.0)
    async with stage() as it, Client(it.url, token=it.token(), backoff=counting) as client:
        for _ in range(3):
            accepted = it.accepted()
            it.close(1013)
            await until(lambda: it.accepted() > accepted and client.state is State.OPEN)  # noqa: B023
        assert asked == [0, 1, 2]
        monkeypatch.setattr("distributed_websocket.client.link.LASTING_SECONDS", 0.0)
        it.close(1013)
        await until(lambda: len(asked) == 4)
        assert asked == [0, 1, 2, 0]


async def test_nobody_has_to_be_called_back() -> None:
    async with stage() as it, Client(it.url, token=it.token(), backoff=soon) as client:
        news = await client.subscribe("+/news")
        it.cut()
        await until(lambda: len(news) == 1, "a hole")
        await it.publish("a/news", ["last"])
        async for message in client:
            assert message["data"] == "last"
            break


async def test_a_connection_that_is_closed_before_its_welcome_was_none() -> None:
    states: list[State] = []
    handshakes: list[ServerConnection] = []

    async def welcome(connection: ServerConnection) -> None:
        handshakes.append(connection)
        if len(handshakes) < 3:
            await connection.close(1013)
        else:
            await connection.send('{"type":"error","code":"malformed_json","detail":"","ref":null}')
            await connection.send('{"type":"welcome","worker":"chat-1"}')
            await connection.wait_closed()

    async with serve(welcome, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with Client(url, on_state=states.append, backoff=soon):
            assert states == ["open"]
            assert len(handshakes) == 3
