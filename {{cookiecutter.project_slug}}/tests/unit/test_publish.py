"""`POST /api/publish` without a gateway around it: who is judged before what, and what a log that is full does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from distributed_websocket.brokers.interface import Record
from distributed_websocket.publishing import Publisher
from tests.deadline import DEADLINE_SECONDS, eventually
from tests.faulty_broker import FaultyBroker
from tests.service import load

publish: Any = load("gateway.publish")
settings: Any = load("settings")

TOKEN = "a-service-token-of-enough-characters"
NOT_JSON = b"x" * publish.MAX_BODY_BYTES
OVERLOADED = "overloaded"


@pytest.fixture
def app() -> FastAPI:
    """A gateway that is not started, and so is connected to nothing."""
    given = settings.GatewaySettings(token_secret="an-example-secret-of-enough-characters", service_token=TOKEN)
    made: FastAPI = load("gateway.app").create_app(given)
    return made


async def post(app: FastAPI, body: bytes, token: str | None) -> tuple[int, int]:
    """The status of the answer, and how many bytes of the body were read for it."""
    read = 0
    statuses = []

    async def receive() -> Message:
        nonlocal read
        part = body[read : read + 4096]
        read += len(part)
        return {"type": "http.request", "body": part, "more_body": read < len(body)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if token is not None:
        headers.append((b"authorization", b"Bearer " + token.encode()))
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": publish.PATH,
        "raw_path": publish.PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, send)
    (status,) = statuses
    return status, read


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_nothing_is_read_of_who_has_not_the_token(app: FastAPI, token: str | None) -> None:
    assert await post(app, NOT_JSON, token) == (401, 0)


async def test_all_is_read_of_who_has_it(app: FastAPI) -> None:
    """The other half of the test above: what it sends is taken, and is a fault."""
    assert await post(app, NOT_JSON, TOKEN) == (422, len(NOT_JSON))


async def test_the_token_is_judged_in_the_event_loop(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain function would go through a thread, and wait behind forty others, for each request."""

    async def refuse(function: Any, *args: Any, **options: Any) -> None:
        pytest.fail(f"{function} goes through a thread")

    monkeypatch.setattr("fastapi.dependencies.utils.run_in_threadpool", refuse)
    monkeypatch.setattr("fastapi.routing.run_in_threadpool", refuse)
    assert (await post(app, b'{"messages":[{"topic":"room/1"}]}', TOKEN))[0] == 503
    assert (await post(app, b"{}", None))[0] == 401


def test_the_openapi_document_describes_the_body_the_token_and_the_answers(app: FastAPI) -> None:
    document = app.openapi()
    operation = document["paths"][publish.PATH]["post"]
    assert operation["requestBody"] == {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Batch"}}},
        "required": True,
    }
    assert set(document["components"]["schemas"]["Batch"]["properties"]) == {"messages"}
    ((scheme,),) = operation["security"]
    assert document["components"]["securitySchemes"][scheme] == {
        "type": "http",
        "scheme": "bearer",
        "description": "CHAT_SERVICE_TOKEN",
    }
    assert set(operation["responses"]) == {"200", "422", "503"}


# A log that takes no more


@pytest.fixture
def broker() -> FaultyBroker:
    return FaultyBroker()


@pytest.fixture
async def outlet(broker: FaultyBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """One that has room for ten bytes."""
    monkeypatch.setattr(publish, "Publisher", lambda *args: Publisher(*args, max_waiting_bytes=10))
    made = publish.Outlet(broker)
    yield made
    broker.heal()
    await made.close()


def record(body: bytes) -> Record:
    return Record("room/1", body, (), body.decode())


async def test_a_batch_that_has_no_room_is_refused_whole_so_that_its_repetition_keeps_the_order(
    outlet: Any, broker: FaultyBroker
) -> None:
    """The short one was stored, and the long one behind it when both were sent again."""
    broker.hanging.add("append")
    before = asyncio.ensure_future(outlet.publish([record(b"before")]))
    await eventually(lambda: broker.appends)
    batch = [record(b"first"), record(b"2nd")]
    async with asyncio.timeout(DEADLINE_SECONDS):
        refused = await outlet.publish(batch)
    assert [(result.id, result.error) for result in refused] == [(None, OVERLOADED)] * 2
    broker.heal()
    await before
    taken = await outlet.publish(batch)
    assert [result.error for result in taken] == [None, None]
    assert broker.texts() == [b"before", b"first", b"2nd"]
    assert len({result.id for result in taken}) == 2


async def test_of_two_batches_at_once_one_is_taken_whole_and_one_refused_whole(
    outlet: Any, broker: FaultyBroker
) -> None:
    batches = [[record(b"a long"), record(b"1")], [record(b"b long"), record(b"2")]]
    taken, refused = await asyncio.gather(*(outlet.publish(batch) for batch in batches))
    assert [result.error for result in taken] == [None, None]
    assert [result.error for result in refused] == [OVERLOADED, OVERLOADED]
    assert broker.texts() == [b"a long", b"1"]
