"""A handshake whose worker has just died: the balancer's 502 is tried again elsewhere, and nothing else is."""

import asyncio
from http import HTTPStatus

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from distributed_websocket import proxy
from tests.deadline import DEADLINE_SECONDS
from tests.proxying import Way, echo, gateway, upstream

STICKY = "chat_worker"
COOKIES = "theme=dark; chat_worker=the-dead-one; access_token=abc"


class Balancer:
    """Refuses the first handshakes with these statuses; remembers the cookies of all."""

    def __init__(self, *statuses: int, retry_after: str | None = None) -> None:
        self.cookies: list[str | None] = []
        self._statuses = list(statuses)
        self._retry_after = retry_after

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        self.cookies.append(request.headers.get("Cookie"))
        if not self._statuses:
            return None
        response = connection.respond(HTTPStatus(self._statuses.pop(0)), "because")
        if self._retry_after is not None:
            response.headers["Retry-After"] = self._retry_after
        return response


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "RETRY_PAUSES_SECONDS", (0.0, 0.01, 0.02))


async def status(url: str) -> int:
    with pytest.raises(InvalidStatus) as error:
        async with asyncio.timeout(DEADLINE_SECONDS), connect(url, proxy=None):
            pass
    return error.value.response.status_code


@pytest.mark.parametrize("statuses", [(502,), (503, 502), (504, 503, 502)])
async def test_a_client_of_a_dead_worker_gets_another_one(way: Way, statuses: tuple[int, ...]) -> None:
    balancer = Balancer(*statuses)
    async with (
        upstream(echo, process_request=balancer) as endpoint,
        gateway(way, endpoint, sticky_cookie=STICKY) as front,
        connect(front.url, proxy=None, additional_headers={"Cookie": COOKIES}) as client,
    ):
        await client.send("hello")
        assert await asyncio.wait_for(client.recv(), DEADLINE_SECONDS) == "hello"
    assert balancer.cookies == [COOKIES] + ["theme=dark; access_token=abc"] * len(statuses)


async def test_a_client_without_a_cookie_gets_another_one_too(way: Way) -> None:
    balancer = Balancer(502)
    async with (
        upstream(echo, process_request=balancer) as endpoint,
        gateway(way, endpoint, sticky_cookie=STICKY) as front,
        connect(front.url, proxy=None),
    ):
        assert balancer.cookies == [None, None]


async def test_the_last_refusal_is_the_clients_when_nobody_is_there(way: Way) -> None:
    balancer = Balancer(502, 502, 502, 503, 502)
    async with (
        upstream(echo, process_request=balancer) as endpoint,
        gateway(way, endpoint, sticky_cookie=STICKY) as front,
    ):
        assert await status(front.url) == 503
    assert len(balancer.cookies) == 4


@pytest.mark.parametrize("refusal", [400, 401, 403, 404, 429, 500])
async def test_any_other_refusal_is_the_clients_at_once(way: Way, refusal: int) -> None:
    balancer = Balancer(refusal)
    async with (
        upstream(echo, process_request=balancer) as endpoint,
        gateway(way, endpoint, sticky_cookie=STICKY) as front,
    ):
        assert await status(front.url) == refusal
    assert len(balancer.cookies) == 1


async def test_who_says_when_to_come_back_is_not_asked_again(way: Way) -> None:
    balancer = Balancer(503, retry_after="7")
    async with (
        upstream(echo, process_request=balancer) as endpoint,
        gateway(way, endpoint, sticky_cookie=STICKY) as front,
    ):
        assert await status(front.url) == 503
    assert len(balancer.cookies) == 1


async def test_without_a_balancer_there_is_one_try(way: Way) -> None:
    balancer = Balancer(502)
    async with upstream(echo, process_request=balancer) as endpoint, gateway(way, endpoint) as front:
        assert await status(front.url) == 502
    assert len(balancer.cookies) == 1


async def test_all_tries_together_have_one_deadline(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "RETRY_PAUSES_SECONDS", (0.0, 60.0))
    balancer = Balancer(502, 502, 502)
    async with (
        upstream(echo, process_request=balancer) as endpoint,
        gateway(way, endpoint, sticky_cookie=STICKY, connect_timeout_seconds=2) as front,
    ):
        assert await status(front.url) == 504
    assert len(balancer.cookies) == 2
