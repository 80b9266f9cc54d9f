"""A real gateway process in front of a real chat worker, with its users in a real Redis."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from distributed_websocket.auth import issue_token
from tests.deadline import eventually
from tests.processes import Running, service
from tests.redis_server import RedisServer, free_port

DEADLINE_SECONDS = 30
SECRET = "an-example-secret-of-enough-characters"
OLD_SECRET = "an-older-example-secret-of-enough-characters"
PASSWORD = "correct horse battery staple"
CHAT = Subprotocol("chat.v1")


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_PREVIOUS_TOKEN_SECRET": OLD_SECRET, "CHAT_WORKER_NAME": "chat-1"}
    with service("chat", tmp_path_factory.mktemp("worker"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def gateway_settings(redis_server: RedisServer) -> dict[str, str]:
    return {
        "CHAT_TOKEN_SECRET": SECRET,
        "CHAT_PREVIOUS_TOKEN_SECRET": OLD_SECRET,
        "CHAT_REDIS_URL": redis_server.url,
        "CHAT_CONNECT_TIMEOUT_SECONDS": "30",
    }


@pytest.fixture(scope="module")
def gateway(
    gateway_settings: dict[str, str], worker: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    settings = {**gateway_settings, "CHAT_WORKERS_URL": worker.ws, "CHAT_LOG_LEVEL": "debug"}
    with service("gateway", tmp_path_factory.mktemp("gateway"), settings) as running:
        yield running


@pytest.fixture
async def http(gateway: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=DEADLINE_SECONDS) as client:
        yield client


def token(user: str = "alice", *, secret: str = SECRET, lifetime_seconds: float = 60) -> str:
    return issue_token(user, secret=secret, lifetime_seconds=lifetime_seconds)


async def hear(client: ClientConnection) -> dict[str, Any]:
    """The next message; that people came and went is not looked at."""
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), DEADLINE_SECONDS))
        if message["type"] not in ("joined", "left"):
            return message


async def refused(url: str, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as error:
        async with asyncio.timeout(DEADLINE_SECONDS), connect(url, proxy=None, additional_headers=headers):
            pass
    return error.value.response.status_code


# Accounts


async def test_one_signs_up_logs_in_and_talks_through_the_gateway(http: httpx.AsyncClient, gateway: Running) -> None:
    signed_up = await http.post("/api/users", json={"username": "Alice", "password": PASSWORD})
    assert (signed_up.status_code, signed_up.json()) == (201, {"username": "Alice"})
    login = await http.post("/api/token", data={"username": "alice", "password": PASSWORD})
    assert login.status_code == 200
    answer = login.json()
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 8 * 3600)
    assert login.headers["cache-control"] == "no-store"
    cookie = login.headers["set-cookie"]
    assert cookie.startswith(f"access_token={answer['access_token']};")
    for attribute in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=28800"):
        assert attribute in cookie
    headers = {"Cookie": cookie.partition(";")[0], "Origin": gateway.http}
    async with connect(gateway.ws, proxy=None, additional_headers=headers, subprotocols=[CHAT]) as client:
        assert client.subprotocol == "chat.v1"
        welcome = await hear(client)
        assert (welcome["type"], welcome["worker"], welcome["user"]) == ("welcome", "chat-1", "Alice")
        await client.send(json.dumps({"type": "subscribe", "topic": "room/1"}))
        assert (await hear(client))["type"] == "subscribed"
        await client.send(
            json.dumps({"type": "send", "topic": "room/1", "data": "hello", "ref": "r", "from": "mallory"})
        )
        got = {message["type"]: message for message in (await hear(client), await hear(client))}
        assert got["ack"]["id"] == got["send"]["id"]
        assert (got["send"]["data"], got["send"]["from"]) == ("hello", "Alice")


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("", PASSWORD),
        ("x" * 33, PASSWORD),
        ("with space", PASSWORD),
        ("-dash", PASSWORD),
        ("a/b", PASSWORD),
        ("\u0430lice", PASSWORD),  # the first letter is Cyrillic
        ("alice\n", PASSWORD),
        ("bob", "short"),
        ("bob", "x" * 129),
        ("bob", None),
        (7, PASSWORD),
    ],
)
async def test_a_bad_name_or_password_is_refused_and_not_quoted(
    username: object, password: object, http: httpx.AsyncClient
) -> None:
    answer = await http.post("/api/users", json={"username": username, "password": password})
    assert answer.status_code == 422
    assert "input" not in answer.json()["detail"][0]
    assert PASSWORD not in answer.text


async def test_a_taken_name_is_refused_whatever_its_case(http: httpx.AsyncClient) -> None:
    first = await http.post("/api/users", json={"username": "Taken", "password": PASSWORD})
    second = await http.post("/api/users", json={"username": "tAKEN", "password": PASSWORD[::-1]})
    assert (first.status_code, second.status_code) == (201, 409)
    login = await http.post("/api/token", data={"username": "taken", "password": PASSWORD})
    assert login.status_code == 200


async def test_of_many_who_want_a_name_at_once_one_gets_it(http: httpx.AsyncClient) -> None:
    wishes = [{"username": "unique", "password": f"{PASSWORD} {number}"} for number in range(8)]
    answers = await asyncio.gather(*(http.post("/api/users", json=wish) for wish in wishes))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    (winner,) = (wish for wish, answer in zip(wishes, answers, strict=True) if answer.status_code == 201)
    logins = [await http.post("/api/token", data=wish) for wish in wishes]
    assert [wish for wish, login in zip(wishes, logins, strict=True) if login.status_code == 200] == [winner]


@pytest.mark.parametrize("username", ["carol", "nobody", "no:body", "x" * 5000, "\u0430lice", ""])
async def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(username: str, http: httpx.AsyncClient) -> None:
    await http.post("/api/users", json={"username": "carol", "password": PASSWORD})
    answer = await http.post("/api/token", data={"username": username, "password": "wrong" * 3})
    if username:
        assert (answer.status_code, answer.json()) == (401, {"detail": "wrong user name or password"})
        assert answer.headers["www-authenticate"] == "Bearer"
    else:
        assert answer.status_code == 422
    assert "set-cookie" not in answer.headers


async def test_a_page_of_another_site_cannot_sign_people_in(http: httpx.AsyncClient) -> None:
    form = {"username": "alice", "password": PASSWORD}
    answer = await http.post("/api/token", data=form, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_a_logout_takes_the_cookie_away(http: httpx.AsyncClient) -> None:
    answer = await http.delete("/api/token")
    assert answer.status_code == 204
    assert 'access_token=""' in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]


async def test_a_long_body_is_refused_and_one_of_unknown_length_too(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}"

    announced = await http.post("/api/token", content=b"x" * 20_000)
    unannounced = await http.post("/api/users", content=chunks())
    assert (announced.status_code, unannounced.status_code) == (413, 411)


# The way to the workers


@pytest.mark.parametrize("transport", ["header", "subprotocol", "cookie"])
async def test_a_token_comes_in_by_each_transport(transport: str, gateway: Running) -> None:
    headers = {
        "header": {"Authorization": f"Bearer {token()}"},
        "subprotocol": {},
        "cookie": {"Cookie": f"access_token={token()}"},
    }[transport]
    offered = [CHAT, Subprotocol(f"bearer.{token()}")] if transport == "subprotocol" else [CHAT]
    async with connect(gateway.ws, proxy=None, additional_headers=headers, subprotocols=offered) as client:
        assert client.subprotocol == "chat.v1"
        assert (await hear(client))["user"] == "alice"


async def test_a_token_of_the_previous_secret_still_counts(gateway: Running) -> None:
    headers = {"Authorization": f"Bearer {token(secret=OLD_SECRET)}"}
    async with connect(gateway.ws, proxy=None, additional_headers=headers) as client:
        assert (await hear(client))["user"] == "alice"


async def test_without_a_good_token_the_handshake_ends_at_the_gateway(gateway: Running) -> None:
    forged = token(secret="a-secret-of-somebody-else-of-enough-characters")
    assert await refused(gateway.ws) == 401
    assert await refused(gateway.ws, Authorization="Bearer nonsense") == 401
    assert await refused(gateway.ws, Authorization=f"Bearer {forged}") == 401
    assert await refused(gateway.ws, Authorization=f"Bearer {token(lifetime_seconds=-1)}") == 401
    assert await refused(f"{gateway.ws}?token={token()}&access_token={token()}") == 401


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:1"]
)
async def test_a_cross_site_page_is_refused_with_the_victims_cookie(origin: str, gateway: Running) -> None:
    assert await refused(gateway.ws, Cookie=f"access_token={token()}", Origin=origin) == 403


async def test_an_allow_list_replaces_the_gateways_own_host(
    gateway_settings: dict[str, str], worker: Running, tmp_path: Path
) -> None:
    own = {"CHAT_ALLOWED_ORIGINS": "https://app.example", "CHAT_WORKERS_URL": worker.ws}
    with service("gateway", tmp_path, {**gateway_settings, **own}) as gateway:
        headers = {"Cookie": f"access_token={token()}"}
        assert await refused(gateway.ws, **headers, Origin=gateway.http) == 403
        headers["Origin"] = "https://app.example"
        async with connect(gateway.ws, proxy=None, additional_headers=headers) as client:
            assert (await hear(client))["user"] == "alice"


async def test_an_identity_that_the_client_claims_stays_outside(gateway: Running) -> None:
    forged = {"X-Forwarded-User": "admin", "X-User": "admin", "Remote-User": "admin"}
    headers = {**forged, "Authorization": f"Bearer {token('alice')}", "Cookie": f"access_token={token('mallory')}"}
    async with connect(gateway.ws, proxy=None, additional_headers=headers) as client:
        assert (await hear(client))["user"] == "alice"


async def test_without_workers_the_handshake_is_a_502(gateway_settings: dict[str, str], tmp_path: Path) -> None:
    """At once: `refused` does not wait for as long as a worker that does not answer would be waited for."""
    nowhere = {
        "CHAT_WORKERS_URL": f"ws://127.0.0.1:{free_port()}/ws",
        "CHAT_CONNECT_TIMEOUT_SECONDS": str(2 * DEADLINE_SECONDS),
    }
    with service("gateway", tmp_path, {**gateway_settings, **nowhere}) as gateway:
        assert await refused(gateway.ws, Authorization=f"Bearer {token()}") == 502


async def test_a_gateway_that_stops_tells_its_clients_to_come_back_one_after_the_other(
    gateway_settings: dict[str, str], worker: Running, tmp_path: Path
) -> None:
    drain_seconds = 5
    own = {"CHAT_WORKERS_URL": worker.ws, "CHAT_DRAIN_SECONDS": str(drain_seconds)}
    headers = {"Authorization": f"Bearer {token()}"}
    ends: list[float] = []

    async def stay(client: ClientConnection) -> None:
        await asyncio.wait_for(client.wait_closed(), DEADLINE_SECONDS)
        assert client.close_code == 1012
        ends.append(time.monotonic())

    with service("gateway", tmp_path, {**gateway_settings, **own}) as gateway:
        clients = [await connect(gateway.ws, proxy=None, additional_headers=headers) for _ in range(4)]
        for client in clients:
            assert (await hear(client))["type"] == "welcome"
        began = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
        await asyncio.gather(*map(stay, clients))
        assert await stopping in (0, -signal.SIGTERM)  # uvicorn ends itself with the signal that it got
    # Late on a busy machine, but nobody before his turn; less what a clock's resolution lets a timer be early.
    assert all(at - began > drain_seconds * turn / 4 - 0.01 for turn, at in enumerate(sorted(ends), 1))
    assert max(ends) - min(ends) > drain_seconds / 2


async def test_a_worker_that_refuses_for_now_is_asked_again_and_without_the_sticky_cookie(
    gateway_settings: dict[str, str], tmp_path: Path
) -> None:
    """Until its health check notices, Traefik answers 502 to every client whose cookie names a worker that has died."""
    cookies: list[str | None] = []

    def refuse_first(connection: ServerConnection, request: Request) -> Response | None:
        cookies.append(request.headers.get("Cookie"))
        return connection.respond(HTTPStatus.BAD_GATEWAY, "Bad Gateway") if len(cookies) == 1 else None

    async def stay(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(stay, "127.0.0.1", 0, process_request=refuse_first) as balancer:
        port = next(iter(balancer.sockets)).getsockname()[1]
        own = {"CHAT_WORKERS_URL": f"ws://127.0.0.1:{port}/ws"}
        headers = {"Authorization": f"Bearer {token()}", "Cookie": "chat_worker=the-dead-one; theme=dark"}
        with service("gateway", tmp_path, {**gateway_settings, **own}) as gateway:
            async with connect(gateway.ws, proxy=None, additional_headers=headers):
                pass
    assert cookies == ["chat_worker=the-dead-one; theme=dark", "theme=dark"]


# The rest


async def test_without_redis_logins_wait_and_tokens_still_count(
    own_redis: RedisServer, gateway_settings: dict[str, str], worker: Running, tmp_path: Path
) -> None:
    own = {"CHAT_REDIS_URL": own_redis.url, "CHAT_WORKERS_URL": worker.ws}
    with service("gateway", tmp_path, {**gateway_settings, **own}) as gateway:
        own_redis.stop()
        async with httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=30) as http:
            answer = await http.post("/api/token", data={"username": "alice", "password": PASSWORD})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert (await http.get("/readyz")).status_code == 200
        headers = {"Authorization": f"Bearer {token()}"}
        async with connect(gateway.ws, proxy=None, additional_headers=headers) as client:
            assert (await hear(client))["user"] == "alice"


async def test_a_gateway_that_has_never_reached_redis_is_not_ready(
    gateway_settings: dict[str, str], tmp_path: Path
) -> None:
    own = {"CHAT_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with service("gateway", tmp_path, {**gateway_settings, **own}, path="/healthz") as gateway:
        async with httpx.AsyncClient(base_url=gateway.http, trust_env=False, timeout=30) as http:
            answer = await http.get("/readyz")
            assert (answer.status_code, answer.json()["ready"]) == (503, False)


async def test_the_page_and_its_files_are_served_under_a_strict_policy(http: httpx.AsyncClient) -> None:
    page = await http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text
    assert "style=" not in page.text
    for name, kind in (("app.js", "javascript"), ("style.css", "css")):
        assert f"/static/{name}" in page.text
        file = await http.get(f"/static/{name}")
        assert file.status_code == 200
        assert kind in file.headers["content-type"]


@pytest.mark.parametrize("path", ["/static/..%2fsettings.py", "/static/%2e%2e/settings.py", "/static/none", "/docs"])
async def test_nothing_but_the_pages_files_is_served(path: str, http: httpx.AsyncClient) -> None:
    assert (await http.get(path)).status_code == 404


async def test_the_logs_hold_no_tokens_passwords_or_query_strings(http: httpx.AsyncClient, gateway: Running) -> None:
    """At the level DEBUG, at which websockets would write down every header."""
    await http.post("/api/token?a=query-string", data={"username": "alice", "password": PASSWORD})
    await refused(f"{gateway.ws}?token={token()}")
    async with connect(
        gateway.ws + "?b=query-string", proxy=None, additional_headers={"Authorization": f"Bearer {token()}"}
    ):
        pass
    for line in ('"WebSocket /ws" 401', "POST /api/token HTTP"):
        await eventually(lambda: line in gateway.log.read_text("utf-8"))  # noqa: B023
    log = gateway.log.read_text("utf-8")
    for secret in (PASSWORD, "query-string", SECRET, "eyJ", "bearer."):
        assert secret not in log
