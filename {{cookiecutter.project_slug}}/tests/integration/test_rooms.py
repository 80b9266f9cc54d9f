"""What the page asks a real gateway: who is signed in, and which rooms there are."""

from collections.abc import AsyncIterator, Iterator

import httpx2 as httpx
import pytest

from distributed_websocket.auth import issue_token
from tests.processes import Running, service
from tests.redis_server import RedisServer

SECRET = "an-example-secret-of-enough-characters"


@pytest.fixture(scope="module")
def gateway(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_REDIS_URL": redis_server.url}
    with service("gateway", tmp_path_factory.mktemp("gateway"), settings) as running:
        yield running


def signed_in(gateway: Running, user: str) -> httpx.AsyncClient:
    """A browser with the cookie of a login."""
    cookies = {"access_token": issue_token(user, secret=SECRET, lifetime_seconds=60)}
    return httpx.AsyncClient(base_url=gateway.http, cookies=cookies, trust_env=False, timeout=30)


@pytest.fixture
async def alice(gateway: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with signed_in(gateway, "alice") as client:
        yield client


@pytest.fixture
async def nobody(gateway: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=30) as client:
        yield client


async def test_the_session_tells_who_is_signed_in_and_for_how_long(alice: httpx.AsyncClient) -> None:
    session = (await alice.get("/api/session")).json()
    assert session["username"] == "alice"
    assert 0 < session["expires_in"] <= 60


async def test_the_session_of_nobody_or_of_an_expired_login_is_empty(nobody: httpx.AsyncClient) -> None:
    expired = {"Cookie": f"access_token={issue_token('alice', secret=SECRET, lifetime_seconds=-1)}"}
    for headers in ({}, expired):
        answer = await nobody.get("/api/session", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"username": None, "expires_in": None})


async def test_a_room_is_added_once_and_found_by_its_beginning(alice: httpx.AsyncClient) -> None:
    statuses = [(await alice.post("/api/rooms", json={"name": name})).status_code for name in ("abc", "abd", "abc")]
    assert statuses == [201, 201, 200]
    assert (await alice.post("/api/rooms", json={"name": "b"})).json() == {"name": "b"}
    assert (await alice.get("/api/rooms?beginning=ab")).json() == {"rooms": ["abc", "abd"], "more": False}
    assert (await alice.get("/api/rooms?beginning=zz")).json() == {"rooms": [], "more": False}


async def test_a_user_adds_so_many_and_no_more_and_a_long_list_says_that_there_are_more(
    gateway: Running, alice: httpx.AsyncClient
) -> None:
    async with signed_in(gateway, "carol") as carol:
        for number in range(100):
            assert (await carol.post("/api/rooms", json={"name": f"many-{number}"})).status_code == 201
        refused = await carol.post("/api/rooms", json={"name": "many-100"})
        assert (refused.status_code, refused.json()["detail"]) == (409, "you have added 100 rooms; that is the most")
        assert (await carol.post("/api/rooms", json={"name": "many-0"})).status_code == 200
    assert (await alice.get("/api/rooms?beginning=many-")).json()["more"] is False
    assert (await alice.post("/api/rooms", json={"name": "many-100"})).status_code == 201
    answer = (await alice.get("/api/rooms?beginning=many-")).json()
    assert (len(answer["rooms"]), answer["more"]) == (100, True)
    assert answer["rooms"] == sorted(answer["rooms"])


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "-a", "x" * 41, "ä", "a\n", "<b>", "a/b", "+", "#", None, 1])
async def test_what_is_no_name_is_refused(alice: httpx.AsyncClient, name: object) -> None:
    assert (await alice.post("/api/rooms", json={"name": name})).status_code == 422


async def test_rooms_are_for_those_who_are_signed_in(nobody: httpx.AsyncClient) -> None:
    assert (await nobody.get("/api/rooms")).status_code == 401
    assert (await nobody.post("/api/rooms", json={"name": "a"})).status_code == 401


async def test_a_page_of_another_site_adds_no_room(alice: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://elsewhere.example"}
    assert (await alice.post("/api/rooms", json={"name": "a"}, headers=headers)).status_code == 403
